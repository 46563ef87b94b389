"""Resumes with the schedule that the command asks for, no matter which class the state's schedule has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from library.errors import UserError
from library.training.optim.group_curves import GroupCurves
from library.training.optim.lr_schedule import AdafactorRates, BuiltSchedule
from library.training.optim.parts.rate_ratios import OWN_RATE, RATIO, own_rates
from library.training.processes import Scaler
from library.training.states.resume import Schedule
from library.training.states.saved_state import check_contents, read_own
from library.training.states.state_files import (
    load_optimizer,
    load_scaler,
    read_training,
    refuse_other,
    schedule_class,
    settle_ratios,
)


def follow_training(folder: Path, optimizer: Optimizer, schedule: BuiltSchedule, scaler: Scaler | None, which: Schedule) -> LRScheduler:
    """Restore optimizer and scaler, and return the command's schedule at the state's update.

    A schedule of the state's class with the state's options (`which.same_curve`) restores its saved values; any other is stepped from its
    start to that update, at the state's rates or, with `which.new_rates`, at the command's. Raises UserError if the state's optimizer has
    another class.
    """
    saved = read_training(folder)
    refuse_other(folder, saved, "optimizer", type(optimizer).__name__)
    ratios, commanded = [group.get(RATIO) for group in optimizer.param_groups], own_rates(optimizer)
    load_optimizer(folder, saved, optimizer)
    settle_ratios(folder, optimizer, ratios, new_rates=False)
    load_scaler(saved, scaler)
    _check_can_follow(folder, saved, schedule)
    built, same_class = schedule.schedule, saved["schedule_class"] == schedule_class(schedule.schedule)
    continues = which.same_curve and not which.new_rates and same_class and not isinstance(built, GroupCurves)
    if schedule.rebuild is None or continues:
        built.load_state_dict(saved["schedule"])
        return built
    rates = commanded if which.new_rates else _saved_rates(saved, commanded)
    return schedule.rebuild.at(optimizer, rates, _steps(folder, saved))


def _steps(folder: Path, saved: Mapping[str, Any]) -> int:
    """Return how many updates a state's schedule has done: all of its run's, unless it started later, as after --initial_step."""
    seen: int | None = saved["schedule"].get("last_epoch")
    return read_own(folder).state.step if seen is None else seen


def check_can_follow(folder: Path, schedule: BuiltSchedule) -> int:
    """Return how many updates the state's schedule has done; raises UserError if the command's schedule cannot continue from there.

    Called before the model is loaded, so it reads only the necessary parts of the file.
    """
    try:
        saved = read_training(folder, mapped=True)
    except UserError:
        check_contents(folder)  # reports a damaged file more precisely, but reads all of it
        raise
    _check_can_follow(folder, saved, schedule)
    return _steps(folder, saved)


def _check_can_follow(folder: Path, saved: Mapping[str, Any], schedule: BuiltSchedule) -> None:
    """Refuse to change between AdaFactor's own rates and a schedule: the optimizer's settings come from the state."""
    if (schedule.rebuild is None) != (saved["schedule_class"] == AdafactorRates.__name__):
        refuse_other(folder, saved, "schedule", schedule_class(schedule.schedule))


def _saved_rates(saved: Mapping[str, Any], commanded: Sequence[float]) -> list[float]:
    """Return the rates of the groups before any schedule, as in the state's run; `commanded` where the state does not record them."""
    rates = []
    bases = saved["schedule"].get("base_lrs", commanded)
    for group, base, own in zip(saved["optimizer"]["param_groups"], bases, commanded, strict=True):
        if OWN_RATE in group:
            rates.append(float(group[OWN_RATE]))
        else:  # an older state; with max_lr, the schedule has overwritten base_lrs with its own rate
            rates.append(own if "max_lr" in group else float(base) * group.get(RATIO, 1.0))
    return rates
