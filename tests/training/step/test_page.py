"""The page of the loop with parts that only write down what is asked of them: what comes after what, and what a run that goes back does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from library.training.planning.plan import make_plan
from library.training.states.state import TrainState
from library.training.step.course import Course
from library.training.step.guard import WentBack
from library.training.step.loop import Loop
from library.training.step.loop_events import UpdateReport
from library.training.step.pending import Pending, ShownGroup
from library.training.step.requests import Requests
from library.training.step.stop_signals import StopRequest


class Notes:
    """Gradients, weights, guard and events of a loop, in `told` in the order of their calls; `back_at` is an update after which the guard
    finds broken weights once and goes back to update `to`, `refused` one that it refuses."""

    def __init__(self, state: TrainState, back_at: int = 0, to: int = 0, refused: int = 0) -> None:
        self.state, self.back_at, self.to, self.refused = state, back_at, to, refused
        self.told: list[str] = []
        self.task = torch.nn.Linear(1, 1)
        self.method = SimpleNamespace(begin_epoch=lambda epoch: self.told.append(f"epoch {epoch}"))

    def accumulate(self, group: list[Any]) -> Pending:
        step = self.state.step + 1
        self.told.append(f"gradients {step}")
        return Pending(step, self.state.epoch, ShownGroup(group, []), torch.tensor([float(step), 0.0, 0.0]))

    def clip(self) -> torch.Tensor:
        return torch.zeros(1)

    def begin(self) -> None:
        pass

    def refuses(self, pending: Pending) -> bool:
        return pending.step == self.refused

    def go_back(self, pending: Pending) -> None:
        self.told.append(f"refused {pending.step}")

    def leave(self) -> None:
        pass

    def move(self, pending: Pending) -> None:
        self.told.append(f"move {pending.step}")

    def release_frozen(self) -> None:
        pass

    def check(self, pending: Pending) -> None:
        self.told.append(f"check {pending.step}")

    def look_at_weights(self, saving: bool) -> None:
        if self.state.step == self.back_at:
            self.back_at = 0
            self.state.step, self.state.epoch, self.state.position = self.to, 0, self.to
            raise WentBack

    def before_training(self) -> None:
        pass

    def on_update(self, report: UpdateReport) -> None:
        self.told.append(f"report {report.step}: {report.loss:g}, {report.average:g}")

    def after_update(self, epochs: int, step: int) -> None:
        self.told.append(f"after update {step} of epoch {epochs}")

    def on_demand(self, epochs: int, step: int) -> None:
        self.told.append(f"save {step}")

    def after_epoch(self, epochs: int, step: int) -> None:
        self.told.append(f"after epoch {epochs}")

    def went_back(self, step: int) -> None:
        self.told.append(f"back at {step}")

    def enough(self) -> bool:
        return False


def trained(save_every: int | None = None, batches: int = 2, **notes: int) -> Notes:
    """A run of two epochs."""
    plan = make_plan(
        batches, accumulation=1, max_train_steps=1, max_train_epochs=2, warmup=0, save_every_n_epochs=None, save_n_epoch_ratio=None,
        save_every_n_steps=save_every,
    )  # fmt: skip
    state = TrainState(0)
    parts: Any = Notes(state, **notes)
    feed: Any = SimpleNamespace(batches=lambda epoch, start: range(start, batches), length=lambda epoch: batches)
    assert Loop(Course(plan, state, feed, Requests(StopRequest(), None, 1)), parts, parts, parts, parts).run()
    assert (state.step, state.epoch, state.position) == (2 * batches, 2, 0)
    return parts


def test_an_update_is_told_when_the_next_one_is_on_the_device() -> None:
    assert trained().told == [
        "epoch 0",
        "gradients 1", "move 1", "after update 1 of epoch 0",
        "gradients 2", "move 2", "check 1", "report 1: 1, 1", "after update 2 of epoch 1",
        "check 2", "report 2: 2, 1.5", "after epoch 1",
        "epoch 1",
        "gradients 3", "move 3", "after update 3 of epoch 1",
        "gradients 4", "move 4", "check 3", "report 3: 3, 2.5", "check 4", "report 4: 4, 3.5", "after update 4 of epoch 2",
        "after epoch 2",
    ]  # fmt: skip


@pytest.mark.parametrize("step", [1, 3])
def test_nothing_is_saved_before_its_loss_is_known_to_be_finite(step: int) -> None:
    told = trained(save_every=step).told
    assert told.index(f"check {step}") < told.index(f"after update {step} of epoch {step // 2}")


def test_a_refused_update_counts_and_is_not_told() -> None:
    told = trained(refused=3).told
    assert "move 3" not in told and "check 3" not in told
    assert told[told.index("gradients 3") :][:3] == ["gradients 3", "refused 3", "after update 3 of epoch 1"]


def test_a_run_that_goes_back_trains_on_from_there_and_forgets_what_was_waiting() -> None:
    told = trained(back_at=3, to=1).told
    assert told[told.index("gradients 3") :][:5] == ["gradients 3", "move 3", "back at 1", "epoch 0", "gradients 2"]
    assert [line for line in told if line.startswith("report")] == [
        "report 1: 1, 1", "report 2: 2, 1.5", "report 2: 2, 2", "report 3: 3, 2.5", "report 4: 4, 3.5"
    ]  # fmt: skip
