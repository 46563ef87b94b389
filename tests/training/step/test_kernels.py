"""How many kernels a LoRA step of a full-size model starts on a GPU, and how much memory they move."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from library.diffusion.noise import NoiseSettings
from library.diffusion.objective import Objective
from library.diffusion.schedule import NoiseSchedule
from library.methods.network import NetworkMethod
from library.methods.network_settings import NetworkSettings
from library.model.attention import set_attention
from library.model.bundle import StableDiffusion
from library.model.family import FAMILIES
from library.model.text.conditioning import Conditioning
from library.training.step.task import DiffusionTask, NoiseAndLoss
from tests.counted_device import Counted, counted

BATCH, SIDE, WIDTH = 8, 64, 768  # 512 pixels
MEMORY_RATE = 3.0e12  # bytes a second that an H100 moves (copy, read and written)


def lora(module: str, args: dict[str, str]) -> NetworkMethod:
    parts = {"train_unet": True, "train_text_encoder": False, "unet_lr": None, "text_encoder_lr": None}
    none = {"weights": None, "dim_from_weights": False, "scale_weight_norms": None, "base_weights": [], "gradient_checkpointing": False}
    return NetworkMethod(NetworkSettings(module, 16, 8.0, None, args, learning_rate=1e-4, **parts, **none))  # type: ignore[arg-type]


def step(monkeypatch: pytest.MonkeyPatch, module: str = "networks.lora", autocast: bool = False, **args: str) -> Counted:
    """One update, from kept latents and contexts to new weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=WIDTH, attention_head_dim=8)
        text_encoder = nn.Linear(1, 1)
    set_attention(unet.to(torch.bfloat16), None)
    model: Any = StableDiffusion(FAMILIES["v1"], "epsilon", None, text_encoder, nn.Identity(), unet)  # type: ignore[arg-type]
    method = lora(module, args)
    method.attach(model)
    method.network.module.to("meta")
    model.unet_autocast |= autocast
    schedule = NoiseSchedule.stable_diffusion()
    task = DiffusionTask(model, method, NoiseAndLoss(schedule, Objective(schedule, "epsilon"), NoiseSettings())).train()
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, foreach=True)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes its state
    optimizer.zero_grad()
    latents, context = torch.empty(BATCH, 4, SIDE, SIDE, device="meta"), torch.empty(BATCH, 77, WIDTH, device="meta")
    monkeypatch.setattr(DiffusionTask, "_captions", lambda *_: Conditioning(context))
    monkeypatch.setattr(DiffusionTask, "_losses", losses)
    batch: Any = SimpleNamespace(
        network_multiplier=1.0, latents=latents, seeds=torch.arange(BATCH), loss_weights=torch.ones(BATCH, device="meta"), strata=None
    )
    with counted(monkeypatch) as counts:
        task(batch, 0)[0].backward()
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()  # as clip_grad_norm_ on a GPU; it has no such way on `meta`
        torch._foreach_mul_(gradients, (1.0 / (norm + 1e-6)).clamp(max=1.0))
        optimizer.step()
    return counts


def losses(task: Any, batch: Any, latents: Tensor, captions: Conditioning, t: Tensor, seeds: Tensor) -> Tensor:
    """The U-Net's part of the task's own; noise and schedule are a few small kernels that other tests see."""
    predicted = task._model[0].predict(latents, t.to("meta"), captions)
    return (predicted.float() - latents).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize(("module", "most"), [("networks.lora", 3000), ("networks.lora_fa", 3000), ("networks.dylora", 3700)])
def test_a_step_starts_few_kernels_and_moves_little_memory(module: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, gigabytes = step(monkeypatch, module).total
    assert kernels <= most
    assert gigabytes * 1e9 / MEMORY_RATE <= 16e-3


def test_autocast_would_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The count sees what it is there for: norms in float32, and casts around them."""
    bare, cast = step(monkeypatch), step(monkeypatch, autocast=True)
    assert cast.total[0] > bare.total[0] + 500
    assert cast.total[1] > bare.total[1] + 20
