"""This suite's side of `benchmarks/train_step.py`: the real loop, task, methods and optimizer on a checkpoint, with cached latents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.rounds import Finished, Job, matmul_tflops, read_job, steps, unet_tflop
from library import console
from library.data.loading.batch import Batch
from library.data.pixels.latent_cache import draw_latents
from library.diffusion.noise import NoiseSettings
from library.diffusion.objective import Objective
from library.diffusion.schedule import NoiseSchedule
from library.method import Method
from library.methods.full_model import FullModelMethod, FullModelSettings
from library.methods.network import NetworkMethod
from library.methods.network_settings import NetworkSettings
from library.model.attention import set_attention
from library.model.load import load
from library.training.optim.lr_schedule import make_schedule
from library.training.optim.optimizer import make_optimizer
from library.training.optim.parts.gradients import GradientLimits
from library.training.planning.plan import make_plan
from library.training.precision import frozen_dtype
from library.training.states.good_states import GoodStates
from library.training.states.state import TrainState
from library.training.states.state_parts import StateParts
from library.training.step.course import Course
from library.training.step.guard import Guard, LeftOutImages
from library.training.step.loop import Loop
from library.training.step.loop_events import NoEvents
from library.training.step.requests import Requests
from library.training.step.stop_signals import StopRequest
from library.training.step.task import DiffusionTask, NoiseAndLoss
from library.training.step.update import Gradients, Weights

CACHED = 16  # images in the cache
LENGTH = 1 << 20  # updates


def main() -> None:
    """Make everything ready as `library.training.assemble` does, then train in the driver's rounds."""
    job = read_job()
    console.setup()
    accelerator = Accelerator(mixed_precision=job.precision)
    method = _method(job)
    model = load(job.model, dtype=torch.float32 if method.full_precision else frozen_dtype(job.precision))
    set_attention(model.unet, None, "sdpa")
    model.vae = torch.nn.Identity()  # latents are cached; the peer has none either
    method.attach(model)
    if job.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
        model.text_encoder.gradient_checkpointing_enable()
    if job.compiled:
        model.unet.compile(dynamic=False)
    built = make_optimizer("AdamW", method.param_groups(), job.learning_rate, None, fused=job.precision != "fp16")
    plan = make_plan(
        LENGTH,
        accumulation=1,
        max_train_steps=LENGTH,
        max_train_epochs=None,
        warmup=0,
        save_every_n_epochs=None,
        save_n_epoch_ratio=None,
        save_every_n_steps=None,
    )
    schedule = make_schedule(built.optimizer, "constant", updates=plan.updates, warmup=0, cycles=1, power=1.0)
    noise = NoiseSchedule.stable_diffusion().to(accelerator.device)
    task = DiffusionTask(model, method, NoiseAndLoss(noise, Objective(noise, model.prediction), NoiseSettings(0.0, 0.0, 0, 0.3)))
    task, optimizer = accelerator.prepare(task, built.optimizer)
    state, requests = TrainState(0), Requests(StopRequest(), None, accelerator.num_processes)
    good_states = GoodStates(StateParts(method, built.optimizer, schedule.schedule, accelerator.scaler), accelerator, lambda: None)
    loop = Loop(
        Course(plan, state, _Feed(job, _facts(job, method)), requests),
        Gradients(accelerator, task, state, requests),
        Weights(accelerator, method, optimizer, schedule.schedule, GradientLimits(job.max_grad_norm)),
        Guard("stop", accelerator, state, good_states, LeftOutImages([], lambda names: None)),
        NoEvents(),
    )
    with contextlib.suppress(Finished):
        loop.run()


def _method(job: Job) -> Method:
    if job.method == "full":
        return FullModelMethod(FullModelSettings(job.learning_rate, text_encoder_updates=None if job.text_encoder else 0))
    return NetworkMethod(
        NetworkSettings(
            module="networks.lora",
            dim=job.rank,
            alpha=1.0,
            dropout=None,
            args={},
            weights=None,
            dim_from_weights=False,
            train_unet=True,
            train_text_encoder=job.text_encoder,
            learning_rate=job.learning_rate,
            unet_lr=None,
            text_encoder_lr=None,
            scale_weight_norms=None,
            base_weights=(),
            gradient_checkpointing=job.gradient_checkpointing,
        )
    )


def _facts(job: Job, method: Method) -> dict[str, Any]:
    trained = sum(parameter.numel() for group in method.param_groups() for parameter in group["params"])
    floor = {}
    if job.device == "cuda":
        floor = {"matmul_tflops": matmul_tflops(job.device, job.precision), "unet_tflop": unet_tflop(job.resolution)}
    return {"trained": trained, **floor}


@dataclass(frozen=True)
class _Feed:
    """One epoch without end."""

    job: Job
    facts: dict[str, Any]

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches, as often as the driver asks."""
        return _batches(self.job, self.facts)

    def length(self, epoch: int) -> int:
        """More than any driver asks for."""
        return LENGTH


def _batches(job: Job, facts: dict[str, Any]) -> Iterator[Batch]:
    """Batches as the latent cache makes them: a new draw from each image's moments, on the CPU."""
    moments, ids = cached_inputs(job)
    for step in steps(job, facts):
        chosen = torch.arange(step * job.batch, (step + 1) * job.batch) % CACHED
        seeds = chosen + 1000 * step
        names = tuple(f"image {number}" for number in chosen.tolist())
        yield Batch(
            images=None,
            latents=draw_latents(moments[chosen], seeds),
            input_ids=ids[chosen].unsqueeze(1),
            token_weights=None,
            loss_weights=torch.ones(job.batch),
            seeds=seeds,
            captions=names,
            paths=names,
            records=tuple(chosen.tolist()),
        )


def cached_inputs(job: Job) -> tuple[Tensor, Tensor]:
    """Moments [16,8,h,w] and token ids [16,77] that both sides train on."""
    generator = torch.Generator().manual_seed(0)
    side = job.resolution // 8
    mean = 5 * torch.randn(CACHED, 4, side, side, generator=generator)
    return torch.cat([mean, torch.full_like(mean, -6.0)], dim=1), torch.randint(0, 49406, (CACHED, 77), generator=generator)


if __name__ == "__main__":
    main()
