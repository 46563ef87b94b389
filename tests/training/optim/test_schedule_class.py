"""Classes as schedules: one that ends before the run is refused with the number that it would need."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from library.training.optim.lr_schedule import BuiltSchedule, make_schedule
from library.training.optim.optimizer import make_optimizer
from tests.messages import refused

RATE = 1e-3


class ShortTable(LRScheduler):
    """A rate for each update, and none beyond."""

    def __init__(self, optimizer: torch.optim.Optimizer, length: int, last_epoch: int = -1) -> None:
        self.table = [RATE] * (length + 1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [self.table[self.last_epoch]] * len(self.base_lrs)


class Sinking(LRScheduler):
    """Falls below 0 after a while."""

    def get_lr(self) -> list[float]:
        return [base * (1 - self.last_epoch / 5) for base in self.base_lrs]


def made(name: str, args: list[str], updates: int, steps: int | None = None) -> BuiltSchedule:
    optimizer = make_optimizer("AdamW", [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": RATE}], RATE).optimizer
    return make_schedule(optimizer, "cosine", updates=updates, scheduler_type=name, args=args, steps=steps)


@pytest.mark.parametrize(
    ("name", "args", "remedy"),
    [
        ("OneCycleLR", ["max_lr=1e-3", "total_steps=2"], "total_steps=7"),
        ("OneCycleLR", ["max_lr=1e-3", "epochs=3", "steps_per_epoch=2"], "total_steps=7"),
        ("tests.training.optim.test_schedule_class.ShortTable", ["length=4"], "length=7"),
    ],
)
def test_a_class_that_ends_before_the_run_is_refused_with_what_it_needs(name: str, args: list[str], remedy: str) -> None:
    with refused("OPT-015", "this run needs 7", f"--lr_scheduler_args {remedy}"):
        made(name, args, 7)
    key, _, number = remedy.partition("=")
    others = [arg for arg in args if not arg.startswith((key, "epochs", "steps_per_epoch"))]
    schedule = made(name, [*others, remedy], 7).schedule
    for _ in range(7):  # as the loop does: once after every update, the last one too
        schedule.optimizer.step()
        schedule.step()
    with refused("OPT-015", "this run needs 7"):
        made(name, [*others, f"{key}={int(number) - 1}"], 7)


def test_only_updates_that_the_run_makes_count() -> None:
    args = ["max_lr=1e-3", "total_steps=5"]
    assert made("OneCycleLR", args, 9, steps=5).schedule
    with refused("OPT-015", "needs 6"):
        made("OneCycleLR", args, 5, steps=6)


def test_a_rate_below_0_is_refused_with_its_update() -> None:
    name = "tests.training.optim.test_schedule_class.Sinking"
    assert made(name, [], 6)
    with refused("OPT-015", "update 6 of 7", "-0.0002"):
        made(name, [], 7)


def test_the_walk_leaves_no_trace_in_optimizer_and_schedule() -> None:
    built = made("OneCycleLR", ["max_lr=1e-3", "total_steps=50"], 50)
    torch_optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=RATE)
    theirs = torch.optim.lr_scheduler.OneCycleLR(torch_optimizer, max_lr=1e-3, total_steps=50)
    for _ in range(50):
        ours = built.schedule.optimizer.param_groups[0]
        assert (ours["lr"], ours["betas"]) == (torch_optimizer.param_groups[0]["lr"], torch_optimizer.param_groups[0]["betas"])
        for one in (built.schedule, theirs):
            one.optimizer.step()
            one.step()


def test_a_class_with_a_rate_of_its_own_is_told() -> None:
    assert "max_lr replaces --learning_rate" in made("OneCycleLR", ["max_lr=1e-3", "total_steps=50"], 50).notes[1]


@pytest.mark.parametrize(
    ("name", "args"), [("LambdaLR", ["lr_lambda=abs"]), ("MultiStepLR", ["milestones=5"]), ("ChainedScheduler", ["schedulers=[]"])]
)
def test_a_value_of_the_wrong_form_is_refused_without_words_of_python(name: str, args: list[str]) -> None:
    with refused("OPT-011", name, args[0], "wrong form") as error:
        made(name, args, 10)
    assert "object" not in str(error.value)


def test_an_optimizer_is_no_schedule() -> None:
    with refused("OPT-014", "torch.optim.SGD", "not a learning rate scheduler"):
        made("torch.optim.SGD", [], 10)
