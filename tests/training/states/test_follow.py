"""A resumed run follows the schedule that is asked for now: every class of torch, held against a run that had it from the start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from library.training.optim.lr_schedule import BuiltSchedule, make_schedule
from library.training.optim.optimizer import make_optimizer
from library.training.states.follow import check_can_follow, follow_training
from library.training.states.resume import Schedule
from library.training.states.state import TrainState
from library.training.states.state_files import write_state
from library.training.states.state_parts import StateParts
from tests.messages import refused

UPDATES, DONE = 30, 11
# class -> arguments of the first run, arguments of the second
CLASSES = {
    "StepLR": (["step_size=7"], ["step_size=4", "gamma=0.5"]),
    "MultiStepLR": (["milestones=5,20"], ["milestones=3,9,13", "gamma=0.3"]),
    "ConstantLR": (["factor=0.5"], ["factor=0.25", "total_iters=15"]),
    "LinearLR": (["total_iters=5"], ["start_factor=0.1", "total_iters=20"]),
    "ExponentialLR": (["gamma=0.9"], ["gamma=0.8"]),
    "PolynomialLR": (["total_iters=30"], ["total_iters=20", "power=2.0"]),
    "CosineAnnealingLR": (["T_max=30"], ["T_max=20", "eta_min=1e-5"]),
    "CosineAnnealingWarmRestarts": (["T_0=30"], ["T_0=4", "T_mult=2"]),
    "CyclicLR": (["base_lr=1e-5", "max_lr=1e-3"], ["base_lr=2e-5", "max_lr=2e-3", "step_size_up=4"]),
    "OneCycleLR": (["max_lr=1e-3", "total_steps=30"], ["max_lr=5e-3", "total_steps=40"]),
}


class NothingTrained:
    """A method of which a state has no weights."""

    def modules(self) -> list[torch.nn.Module]:
        return []


def made(name: str, args: list[str], rates: tuple[float, ...] = (1e-3, 2e-4), updates: int = UPDATES, common: float = 0.5):
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates]
    optimizer = make_optimizer("AdamW", groups, common).optimizer
    named = not name[0].isupper()
    return optimizer, make_schedule(optimizer, name if named else "", updates=updates, args=args, scheduler_type="" if named else name)


def train(optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, updates: int) -> list[list[object]]:
    """What each update's groups have of the schedule: the rate, and the momentum that some classes move."""
    seen = []
    for _ in range(updates):
        seen.append([(group["lr"], group["betas"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return seen


def state_of(folder: Path, name: str, args: list[str], **more: object) -> Path:
    optimizer, built = made(name, args, **more)
    train(optimizer, built.schedule, DONE)
    write_state(folder, StateParts(NothingTrained(), optimizer, built.schedule), TrainState(1, step=DONE), {})
    return folder


def resumed(folder: Path, optimizer: torch.optim.Optimizer, built: BuiltSchedule, same_curve: bool = False, new_rates: bool = False):
    assert check_can_follow(folder, built) == DONE
    return train(optimizer, follow_training(folder, optimizer, built, None, Schedule(new_rates, same_curve)), UPDATES - DONE)


@pytest.mark.parametrize("name", CLASSES)
def test_other_arguments_of_a_class_are_followed_from_the_place_where_they_would_be(name: str, tmp_path: Path) -> None:
    before, now = CLASSES[name]
    folder = state_of(tmp_path / "a-state", name, before)
    optimizer, built = made(name, now)
    whole = train(*[part if place == 0 else part.schedule for place, part in enumerate(made(name, now))], UPDATES)
    assert resumed(folder, optimizer, built) == whole[DONE:]


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_under_its_own_arguments_goes_on_exactly(name: str, tmp_path: Path) -> None:
    args = CLASSES[name][1]
    folder = state_of(tmp_path / "a-state", name, args)
    optimizer, built = made(name, args)
    uninterrupted, schedule = made(name, args)
    assert resumed(folder, optimizer, built, same_curve=True) == train(uninterrupted, schedule.schedule, UPDATES)[DONE:]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("cosine", []), ("StepLR", ["step_size=4", "gamma=0.5"])),
        (("OneCycleLR", ["max_lr=1e-1", "total_steps=30"]), ("polynomial", ["lr_end=1e-5"])),
        (("CyclicLR", ["base_lr=1e-5", "max_lr=1e-3"]), ("CosineAnnealingLR", ["T_max=30"])),
        (("ExponentialLR", ["gamma=0.9"]), ("cosine_with_min_lr", ["min_lr=1e-5"])),
        (("OneCycleLR", ["max_lr=1e-1", "total_steps=30"]), ("constant", [])),
    ],
)
def test_another_class_or_curve_is_followed_and_nothing_of_the_old_one_stays(before, now, tmp_path: Path) -> None:
    folder = state_of(tmp_path / "a-state", *before)
    optimizer, built = made(*now)
    uninterrupted, schedule = made(*now)
    assert resumed(folder, optimizer, built) == train(uninterrupted, schedule.schedule, UPDATES)[DONE:]


@pytest.mark.parametrize("name", ["polynomial", "cosine_with_min_lr", "CosineAnnealingLR", "OneCycleLR"])
@pytest.mark.parametrize("new_rates", [False, True])
def test_rates_and_their_floors_are_the_states_or_with_new_rates_the_commands(name: str, new_rates: bool, tmp_path: Path) -> None:
    args = {"cosine_with_min_lr": ["min_lr=1e-5"], "polynomial": ["lr_end=1e-5"]}.get(name) or CLASSES[name][1]
    folder = state_of(tmp_path / "a-state", name, args, common=3.0)
    optimizer, built = made(name, args, rates=(7e-3, 8e-3), common=1e-6)
    uninterrupted, schedule = made(name, args, rates=(7e-3, 8e-3) if new_rates else (1e-3, 2e-4))
    assert resumed(folder, optimizer, built, True, new_rates) == train(uninterrupted, schedule.schedule, UPDATES)[DONE:]


def test_a_state_of_before_that_does_not_name_its_rates_goes_on_at_them(tmp_path: Path) -> None:
    folder = state_of(tmp_path / "a-state", "cosine", [])
    saved = torch.load(folder / "training.pt", weights_only=True)
    for group in saved["optimizer"]["param_groups"]:
        del group["own_rate"]
    del saved["schedule"]["own_rates"]
    torch.save(saved, folder / "training.pt")
    optimizer, built = made("polynomial", ["lr_end=1e-5"], rates=(9e-3, 9e-3))
    uninterrupted, schedule = made("polynomial", ["lr_end=1e-5"])
    assert resumed(folder, optimizer, built) == train(uninterrupted, schedule.schedule, UPDATES)[DONE:]


def test_adafactors_own_rates_and_a_curve_do_not_follow_one_another(tmp_path: Path) -> None:
    def adafactor(*args: str):
        built = make_optimizer("AdaFactor", [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 1e-3}], 1e-3, list(args))
        return built.optimizer, make_schedule(built.optimizer, "constant", updates=9, forced=built.schedule)

    optimizer, schedule = adafactor()
    write_state(tmp_path / "a-state", StateParts(NothingTrained(), optimizer, schedule.schedule), TrainState(1), {})
    with refused("STATE-004", "AdafactorRates", "LambdaLR", "--lr_scheduler"):
        check_can_follow(tmp_path / "a-state", adafactor("relative_step=False")[1])
    assert check_can_follow(tmp_path / "a-state", adafactor()[1]) == 0
