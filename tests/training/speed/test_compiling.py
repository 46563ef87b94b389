"""What --torch_compile compiles, counted with a compiler that runs the traced operations as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from library.data.loading.batch import Batch
from library.diffusion.noise import NoiseSettings
from library.diffusion.objective import Objective
from library.diffusion.schedule import NoiseSchedule
from library.methods.full_model import FullModelMethod, FullModelSettings
from library.model.drawing.generate import GenerateSettings, generate
from library.model.load import load
from library.options.declare import build
from library.options.groups.scripts import TrainNetwork
from library.training.speed.compiling import CompiledUnet, Compiler, check_cuda_graphs
from library.training.step.task import DiffusionTask, NoiseAndLoss
from tests.messages import message, refused
from tests.training.step.test_step_on_a_device import processes

ROWS = {(64, 64): 2, (96, 64): 2}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("ACCELERATE_DYNAMO_BACKEND", raising=False)
    before = torch._dynamo.config.recompile_limit, torch._dynamo.config.accumulated_recompile_limit
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.config.recompile_limit, torch._dynamo.config.accumulated_recompile_limit = before
    torch.compiler.reset()


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def options(**chosen: object) -> Any:
    return build(TrainNetwork, chosen, {})


def made(checkpoint: Path) -> tuple[Any, DiffusionTask, Any]:
    """A model with a U-Net of one block, so that tracing it takes seconds; its task; the run that both belong to."""
    model = load(checkpoint)
    torch.manual_seed(0)
    model.unet = UNet2DConditionModel(
        block_out_channels=(16,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        mid_block_type=None,
        cross_attention_dim=64,
        norm_num_groups=4,
        attention_head_dim=2,
    )
    method = FullModelMethod(FullModelSettings(1e-6, text_encoder_updates=0))
    method.attach(model)
    schedule = NoiseSchedule.stable_diffusion()
    task = DiffusionTask(model, method, NoiseAndLoss(schedule, Objective(schedule, "epsilon"), NoiseSettings()))
    accelerator = processes()
    accelerator.device = torch.device("cpu")
    datasets = [SimpleNamespace(options=SimpleNamespace(network_multiplier=1.0))]
    inputs = SimpleNamespace(
        source=SimpleNamespace(rows=lambda: ROWS, captions=lambda: ["a cat"]),
        data=SimpleNamespace(blueprint=SimpleNamespace(datasets=datasets), prior_from_base=None),
        validation=None,
        plan=SimpleNamespace(updates=4),
    )
    run = SimpleNamespace(
        options=options(torch_compile=True, dynamo_backend="eager"),
        inputs=inputs,
        method=method,
        state=SimpleNamespace(step=0),
        accelerator=accelerator,
        model=model,
        task=task,
    )
    return model, task, run


def batch(size: tuple[int, int], count: int) -> Batch:
    ids, weights = torch.zeros(count, 1, 77, dtype=torch.int64), torch.ones(count)
    latents = torch.randn(count, 4, size[1] // 8, size[0] // 8, generator=torch.Generator().manual_seed(count))
    names = tuple("ab"[:count])
    return Batch(None, latents, ids, None, weights, torch.arange(count), names, names, tuple(range(count)))


def test_one_graph_for_each_size_and_mode_whatever_the_number_of_images(tiny_v1: Path) -> None:
    model, task, run = made(tiny_v1)
    plain = {(size, count): step(task, batch(size, count)) for size in ROWS for count in (2, 1)}
    compiled = CompiledUnet.of(run, model, None)
    assert compiled is not None
    task.rows = compiled.latent_rows
    before = {name: tensor.clone() for name, tensor in task.state_dict().items()}
    compiled.warm_up(run)
    assert graphs() == len(ROWS)  # all that training needs
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.state_dict().items())
    assert all(parameter.grad is None for parameter in task.parameters())
    for (size, count), (loss, gradient) in plain.items():  # short batches are filled up: the same but for rounding
        result, moved = step(task, batch(size, count))
        torch.testing.assert_close(result, loss, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(moved, gradient, rtol=1e-3, atol=1e-5 * float(gradient.abs().max()))
    assert graphs() == len(ROWS)
    task.eval()
    for size in ROWS:
        for count in (2, 1):
            task.evaluate(batch(size, count), 3)
    assert graphs() == 2 * len(ROWS)  # without gradients
    generate(model, GenerateSettings("a cat", width=64, height=64, steps=3, seed=1))
    drawn = graphs()
    assert drawn <= 2 * len(ROWS) + 1  # two rows, prompted and not; one graph, however many steps
    generate(model, GenerateSettings("a dog", width=64, height=64, steps=5, seed=2))
    task.train()
    step(task, batch((64, 64), 1))
    assert graphs() == drawn


def step(task: DiffusionTask, shown: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, and the gradient of the first convolution."""
    task.zero_grad(set_to_none=True)
    loss, _ = task(shown, 0)
    loss.backward()
    weight = task.unet.conv_in.weight
    assert isinstance(weight, torch.nn.Parameter) and weight.grad is not None
    return loss.detach(), weight.grad.clone()


def test_the_limit_of_graphs_is_that_of_the_plan(tiny_v1: Path) -> None:
    model, _, run = made(tiny_v1)
    run.inputs.source.rows = lambda: {(64 + 8 * number, 64): 2 for number in range(40)}
    run.inputs.validation = SimpleNamespace(buckets=[None] * 5)
    CompiledUnet.of(run, model, SimpleNamespace(prompts=[SimpleNamespace(width=64, height=64, guidance=7.5)]))  # type: ignore[arg-type]
    assert torch._dynamo.config.recompile_limit >= 40 + 5 + 1


def test_many_sizes_are_told_with_what_makes_them_fewer(tiny_v1: Path, heard: Any) -> None:
    model, _, run = made(tiny_v1)
    run.inputs.source.rows = lambda: {(64 + 8 * number, 64): 2 for number in range(25)}
    CompiledUnet.of(run, model, None)
    message(heard.lines, "25 image sizes", "bucket_reso_steps")


def test_the_compiler_is_the_options_or_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Compiler.chosen(options().training) is None
    assert Compiler.chosen(options(torch_compile=True).training) == Compiler("inductor")
    assert Compiler.chosen(options(torch_compile=True, dynamo_backend="no").training) is None
    with refused("OPT-006", "--dynamo_backend nvprims_nvfuser"):
        Compiler.chosen(options(torch_compile=True, dynamo_backend="nvprims_nvfuser").training)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    assert Compiler.chosen(options().training) == Compiler("eager")
    assert Compiler.chosen(options(torch_compile=True, cuda_graphs=True).training) == Compiler("inductor", True)


def test_cuda_graphs_are_refused_where_they_cannot_be() -> None:
    chosen = options(torch_compile=True, cuda_graphs=True).training
    with refused("OPT-018", "--cuda_graphs", "cpu"):
        check_cuda_graphs(chosen, torch.device("cpu"), 1)
    with refused("OPT-008", "--cuda_graphs", "one process", 2):
        check_cuda_graphs(chosen, torch.device("cuda"), 2)
    check_cuda_graphs(chosen, torch.device("cuda"), 1)
    check_cuda_graphs(options().training, torch.device("cpu"), 2)
