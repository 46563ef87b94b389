"""fp16 with its gradients scaled: torch's scaler and ours in the real loop on the CPU, overflow, clipping, underflow, state."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from library.options.groups.optimizer import OptimizerOptions
from library.options.groups.training import TrainingOptions
from library.training import assemble
from library.training.optim.loss_scaler import GROWS_AFTER, LossScaler
from library.training.optim.optimizer import make_optimizer
from library.training.optim.parts.gradients import GradientLimits
from library.training.planning.plan import make_plan
from library.training.states.good_states import GoodStates
from library.training.states.state import TrainState
from library.training.states.state_parts import StateParts
from library.training.step.course import Course
from library.training.step.guard import Guard, LeftOutImages
from library.training.step.loop import Loop
from library.training.step.loop_events import NoEvents
from library.training.step.requests import Requests
from library.training.step.stop_signals import StopRequest
from library.training.step.update import Gradients, Weights
from tests.messages import refused
from tests.scripts.running import run_in_process


class Line(torch.nn.Module):
    """Loss w·x on a share of ones; in update `overflows` the gradient is too large for any fp16."""

    def __init__(self, dtype: torch.dtype, overflows: int) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(8, dtype=dtype))
        self.overflows = overflows

    def forward(self, batch, step: int):
        loss = (self.w.float() * (1e38 if step == self.overflows else 1.0) / 8).sum()
        return loss, loss.detach()[None]


class Share:
    """A batch that is nothing but a position."""

    paths = ("a.png",)
    prior = None

    def to(self, device):
        return self


class Untouched:
    """A method that does nothing."""

    def modules(self):
        return []

    def begin_epoch(self, epoch):
        pass

    def trains_text_encoder(self, step):
        return False

    def after_step(self, step):
        return {}


@pytest.mark.parametrize("kind", ["torch's, fp32 weights", "ours, fp16 weights"])
def test_an_update_that_overflows_is_left_out_with_its_step_of_the_schedule(kind) -> None:
    """The real loop with either scaler: of 4 updates the second is left out, the scale is halved, the schedule makes 3 steps."""
    results = {}

    def run(argv) -> None:
        accelerator = Accelerator(cpu=True)
        ours = kind.startswith("ours")
        accelerator.scaler = LossScaler(scale=2.0**10) if ours else torch.amp.GradScaler("cpu", init_scale=2.0**10)
        task = Line(torch.float16 if ours else torch.float32, overflows=1)
        built = make_optimizer("SGD", [{"params": [task.w]}], 0.5, fused=False, rounding_seed=0 if ours else None)
        schedule = torch.optim.lr_scheduler.LambdaLR(built.optimizer, lambda step: 1.0)
        task, optimizer = accelerator.prepare(task, built.optimizer)
        settings = dict(max_train_steps=4, max_train_epochs=None, warmup=0, save_every_n_epochs=None, save_n_epoch_ratio=None)
        plan = make_plan(4, accumulation=1, save_every_n_steps=None, **settings)
        method, state, requests, weights = Untouched(), TrainState(1), Requests(StopRequest(), None, 1), []
        feed = SimpleNamespace(batches=lambda epoch, start: [Share()] * 4, length=lambda epoch: 4)
        events = NoEvents()
        events.after_update = lambda epochs, step: weights.append(task.w[0].item())
        good_states = GoodStates(StateParts(method, optimizer, schedule), accelerator, lambda: None)
        Loop(
            Course(plan, state, feed, requests),
            Gradients(accelerator, task, state, requests),
            Weights(accelerator, method, optimizer, schedule, GradientLimits()),
            Guard("stop", accelerator, state, good_states, LeftOutImages([], lambda names: None)),
            events,
        ).run()
        results.update(weights=weights, scale=accelerator.scaler.get_scale(), steps=schedule.last_epoch)

    assert run_in_process(run) == 0
    assert results["weights"] == pytest.approx([1 - 1 / 16, 1 - 1 / 16, 1 - 2 / 16, 1 - 3 / 16])
    assert (results["scale"], results["steps"]) == (2.0**9, 3)


def a_weight(gradient: float, scaler: LossScaler) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.zeros(4, dtype=torch.float16))
    optimizer = make_optimizer("SGD", [{"params": [weight]}], 1.0, fused=False, rounding_seed=0).optimizer
    scaler.scale((weight.float() * gradient).sum()).backward()
    return weight, optimizer


def test_gradients_below_fp16s_smallest_number_still_move_the_weights() -> None:
    """1e-8 is 0 in fp16; scaled it is not, and it is unscaled where it is a float32. (Weights near 0 can store such an update.)"""
    assert torch.tensor(1e-8, dtype=torch.float16) == 0
    scaler = LossScaler()
    weights = []
    for seed in range(50):
        weight, optimizer = a_weight(1e-8, scaler)
        optimizer.seed = seed
        scaler.step(optimizer)
        weights.append(weight.detach().float())
    assert torch.stack(weights).mean().item() == pytest.approx(-1e-8, rel=0.5)  # 200 draws of 0 or −6e-8


def test_clipping_is_that_of_torch() -> None:
    scaler = LossScaler(max_grad_norm=0.5, scale=2.0**8)
    weight, optimizer = a_weight(3.0, scaler)
    scaler.step(optimizer)
    reference = torch.zeros(4, requires_grad=True)
    reference.grad = torch.full((4,), 3.0)
    torch.nn.utils.clip_grad_norm_([reference], 0.5)
    torch.testing.assert_close(weight.detach().float(), -reference.grad, rtol=2e-3, atol=0)


def test_the_scale_falls_with_overflows_grows_with_time_and_survives_a_state() -> None:
    scaler = LossScaler(scale=4.0)
    weight, optimizer = a_weight(math.inf, scaler)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0 and (weight == 0).all()
    weight.grad = torch.ones_like(weight)
    for _ in range(GROWS_AFTER - 1):
        scaler._overflowed = False
        scaler.update()
    again = LossScaler()
    again.load_state_dict(scaler.state_dict())
    again.update()
    assert (scaler.get_scale(), again.get_scale()) == (2.0, 4.0)


def test_gradients_that_overflow_at_every_scale_end_the_run_with_a_remedy() -> None:
    scaler = LossScaler()
    with refused("TRAIN-003", "--full_fp16", "--full_bf16"):
        for _ in range(100):
            _, optimizer = a_weight(math.nan, scaler)
            scaler.step(optimizer)
            scaler.update()


@pytest.mark.parametrize(("full_fp16", "limit"), [(False, 0.7), (True, 0.0)])
def test_gradients_are_clipped_in_one_place(full_fp16: bool, limit: float) -> None:
    """Our scaler clips unscaled gradients in its step; the loop would cut the scaled ones to nothing."""
    options = SimpleNamespace(
        text_encoder_norm=None, training=TrainingOptions(full_fp16=full_fp16), optimizer=OptimizerOptions(max_grad_norm=0.7)
    )
    assert assemble.gradient_limits(options) == GradientLimits(limit)
