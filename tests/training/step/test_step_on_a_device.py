"""A whole update as on a GPU: nothing is left on the CPU, no value is asked for, and no copy makes the CPU wait for the device."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from library.data.loading.batch import Batch
from library.diffusion.noise import NoiseSettings
from library.diffusion.objective import Objective, ObjectiveSettings
from library.diffusion.pointwise import PointwiseSettings
from library.diffusion.schedule import NoiseSchedule
from library.method import Method
from library.methods.full_model import FullModelMethod, FullModelSettings
from library.methods.network import NetworkMethod
from library.methods.network_settings import NetworkSettings
from library.methods.textual_inversion import TextualInversionMethod, TextualInversionSettings
from library.model.load import load
from library.options.groups.textual_inversion import NewWordChoice
from library.training.caches.text_cache import TextCache
from library.training.optim.ema import Ema
from library.training.optim.parts.gradients import LimitedPart, clipped_norm
from library.training.states.state import TrainState
from library.training.step.requests import Requests
from library.training.step.stop_signals import StopRequest
from library.training.step.task import DiffusionTask, NoiseAndLoss
from library.training.step.update import Gradients, _by_target
from tests.fake_device import DEVICE, FakeDevice, fake_device

OFFSET = NoiseSettings(offset=0.1, adaptive_scale=0.05, offset_random=True, perturbation=0.1, perturbation_random=True)
PYRAMID = NoiseSettings(multires_iterations=6)


def lora() -> Method:
    parts = {"train_unet": True, "train_text_encoder": True, "unet_lr": None, "text_encoder_lr": None}
    none = {"weights": None, "dim_from_weights": False, "scale_weight_norms": None, "base_weights": [], "gradient_checkpointing": False}
    args = {"conv_dim": "2", "rank_dropout": "0.1"}
    return NetworkMethod(NetworkSettings("networks.lora", 4, 1.0, 0.1, args, learning_rate=1e-3, **parts, **none))


KINDS: dict[str, tuple[Any, NoiseSettings]] = {
    "lora": (lora, OFFSET),
    "U-Net": (lambda: FullModelMethod(FullModelSettings(1e-6, text_encoder_updates=0)), PYRAMID),
    "xti": (lambda: TextualInversionMethod(TextualInversionSettings([NewWordChoice("zxcv", 2)], 1e-3, by_layer=True)), OFFSET),
}


def made(kind: str, checkpoint: Path) -> tuple[Any, DiffusionTask]:
    """Model and task on the CPU, as a run builds them."""
    model, (make, noise) = load(checkpoint), KINDS[kind]
    method = make()
    method.attach(model)
    if kind == "U-Net":  # checkpointed too, which has its own ways with random states and devices
        model.unet.enable_gradient_checkpointing()
    texts = None if method.trains_text_encoder(0) else TextCache(model.encode)
    schedule = NoiseSchedule.stable_diffusion()
    objective = Objective(schedule, "epsilon", ObjectiveSettings(min_snr_gamma=5, pointwise=PointwiseSettings("huber")))
    return model, DiffusionTask(model, method, NoiseAndLoss(schedule, objective, noise), clip_skip=2, texts=texts)


def bring(device: FakeDevice, model: Any, task: DiffusionTask) -> None:
    device.bring(task, model.vae)
    task.schedule = NoiseSchedule(device.twin(task.schedule.alphas_cumprod))
    task.objective.weights = device.twin(task.objective.weights)
    task.objective.pointwise.thresholds = device.twin(task.objective.pointwise.thresholds)


def batch(latents: bool) -> Batch:
    """Two images as the loader gives them, with a weighted caption and masks; seeds are numbers, which no fake tensor holds."""
    images, kept = (None, torch.empty(2, 4, 8, 8)) if latents else (torch.empty(2, 3, 64, 64), None)
    words = torch.zeros(2, 1, 77, dtype=torch.int64), torch.ones(2, 1, 77)
    return Batch(images, kept, *words, torch.ones(2), [1, 2], ("a", "b"), ("a", "b"), (0, 1), torch.ones(2, 1, 8, 8))  # type: ignore[arg-type]


def processes() -> Any:
    """What the loop asks of accelerate, for one process on the device."""
    return SimpleNamespace(
        device=DEVICE,
        num_processes=1,
        process_index=0,
        scaler=None,
        no_sync=lambda task: nullcontext(),
        backward=lambda loss: loss.backward(),
        clip_grad_norm_=torch.nn.utils.clip_grad_norm_,
        unwrap_model=lambda task: task,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_stays_on_the_device_and_never_waits_for_it(kind: str, tiny_v1: Path) -> None:
    model, task = made(kind, tiny_v1)
    with fake_device() as device:
        bring(device, model, task)
        trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
        optimizer, ema = torch.optim.AdamW(trained, lr=1e-3), Ema(trained, 0.9)
        task.train()
        shown = batch(latents=kind == "lora")
        if task._texts is not None:  # captions that were met before are read from main memory
            task._texts(shown.captions, shown.input_ids.to(DEVICE), shown.token_weights.to(DEVICE))
            device.copies.clear()
        pending = Gradients(processes(), task, TrainState(seed=3), Requests(StopRequest(), None, 1)).accumulate([shown])
        norm = clipped_norm(processes(), [LimitedPart(trained, 1.0)])
        optimizer.step()
        ema.update()
        assert {pending.loss.device, norm.device} == {DEVICE}
        moved = [parameter.grad for parameter in trained if parameter.grad is not None]
        assert moved and {gradient.device for gradient in moved} == {DEVICE}
    assert device.copies and not [copy for copy in device.copies if copy.waits or not copy.there]


def test_losses_by_target_are_added_up_without_waiting() -> None:
    """Which draws have the base model's prediction as target is known on the CPU, their losses on the device."""
    with fake_device() as device:
        shown = replace(batch(latents=True), prior=torch.zeros(2, dtype=torch.bool))
        figures = _by_target([shown], [torch.empty(2, device=DEVICE)])
        assert [figure.device for figure in figures] == [DEVICE] * 4
    assert device.copies and not [copy for copy in device.copies if copy.waits or not copy.there]


def test_what_stays_on_the_cpu_and_what_waits_is_found() -> None:
    with fake_device() as device:
        there = torch.empty(3, device=DEVICE)
        with pytest.raises(RuntimeError, match="device"):
            there + torch.empty(3)
        with pytest.raises(Exception, match="_local_scalar_dense"):
            there.sum().item()
        torch.ones(2).to(DEVICE), torch.ones(2).to(DEVICE, non_blocking=True), there.cpu(), torch.empty(3).copy_(there)
    assert [(copy.there, copy.waits) for copy in device.copies] == [(True, True), (True, False), (False, True), (False, True)]
