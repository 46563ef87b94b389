"""Switches of kernels and layouts do what they say, and what the optimizer remembers has the memory layout of the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from library.model.load import load
from library.model.text.conditioning import Conditioning
from library.options.declare import build
from library.options.groups.scripts import TrainNetwork
from library.training.speed.kernels import choose_kernels, choose_precision, match_layouts
from tests.messages import message, refused

CPU = torch.device("cpu")


def training(**chosen: object) -> Any:
    return build(TrainNetwork, chosen, {}).training


@pytest.fixture
def _precision_as_before() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    yield
    torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


@pytest.mark.usefixtures("_precision_as_before")
def test_tf32_is_switched_on_for_a_gpu_without_a_warning_and_not_unasked(heard: Any) -> None:
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose_precision(training(), torch.device("cuda"))
        choose_precision(training(allow_tf32=True), CPU)
        assert matmul.fp32_precision == before != "tf32"
        message(heard.lines, "--allow_tf32", "cpu")
        choose_precision(training(allow_tf32=True), torch.device("cuda"))
    assert matmul.fp32_precision == conv.fp32_precision == "tf32"


class _Backends(TorchFunctionMode):
    """Which kernels may attend, at each call of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[bool, bool, bool, bool]] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.scaled_dot_product_attention:
            cuda = torch.backends.cuda
            self.seen.add((cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled()))
        return function(*args, **(kwargs or {}))


def _predicted(model: Any) -> torch.Tensor:
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    context = torch.randn(1, 77, model.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        prediction: torch.Tensor = model.predict(noisy, 5, Conditioning(context))
    return prediction


def test_the_kernel_that_is_named_attends_in_the_unet_and_no_other(tiny_v1: Path) -> None:
    model = load(tiny_v1)
    expected = _predicted(model)
    choose_kernels(model, training(sdpa_backend="math"), CPU)
    with _Backends() as backends:
        prediction = _predicted(model)
    assert backends.seen == {(False, False, True, False)}
    torch.testing.assert_close(prediction, expected, rtol=1e-4, atol=1e-5)
    assert torch.backends.cuda.flash_sdp_enabled()  # elsewhere nothing has changed


def test_a_kernel_that_cannot_attend_here_is_refused_before_training(tiny_v1: Path) -> None:
    with refused("OPT-018", "--sdpa_backend cudnn", "bfloat16", "--sdpa_backend auto"):
        choose_kernels(load(tiny_v1), training(sdpa_backend="cudnn", mixed_precision="bf16"), CPU)


def test_channels_last_lays_out_the_unet_and_what_it_takes_and_changes_rounding_alone(tiny_v1: Path) -> None:
    model = load(tiny_v1)
    expected, seen = _predicted(model), []
    before = [id(parameter) for parameter in model.unet.parameters()]
    choose_kernels(model, training(channels_last=True), CPU)
    assert [id(parameter) for parameter in model.unet.parameters()] == before
    weight = model.unet.down_blocks[0].resnets[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    hook = model.unet.conv_in.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    torch.testing.assert_close(_predicted(model), expected, rtol=1e-3, atol=1e-4)
    hook.remove()
    assert seen == [True]


def test_what_an_optimizer_remembers_is_laid_out_as_the_weights_are() -> None:
    """Kernels for many tensors go through both at once: after a restored state they would meet others' values, or refuse."""
    weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
    optimizer, again = (torch.optim.AdamW([weight], lr=1e-3) for _ in range(2))
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    saved = optimizer.state_dict()
    for memory in saved["state"].values():
        memory.update({name: value.contiguous() for name, value in memory.items() if value.dim() == 4})
    again.load_state_dict(saved)
    assert again.state[weight]["exp_avg"].stride() != weight.stride()
    match_layouts(again)
    for name in ("exp_avg", "exp_avg_sq"):
        assert again.state[weight][name].stride() == weight.stride()
        assert torch.equal(again.state[weight][name], optimizer.state[weight][name])
