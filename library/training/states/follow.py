"""Going on with the schedule that the command asks for, whatever class the state's is of."""

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
    """Restore optimizer and scaler, and return the command's schedule at the place where the state's stands.

    A class under the state's own arguments (`which.same_curve`) goes on with what it remembers; any other is stepped to that place from its
    start, at the state's rates or, with `which.new_rates`, at the command's.
    Raises UserError where the optimizer is of another kind than the state's.
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
    """How many updates the schedule of a state has seen: all of its run's, unless it began later, as after --initial_step."""
    seen: int | None = saved["schedule"].get("last_epoch")
    return read_own(folder).state.step if seen is None else seen


def check_can_follow(folder: Path, schedule: BuiltSchedule) -> int:
    """How many updates the state's schedule has seen; raises UserError where the command's cannot go on from there.

    For before the model is loaded: of the file no more is read than this needs.
    """
    try:
        saved = read_training(folder, mapped=True)
    except UserError:
        check_contents(folder)  # which says more of a damaged file, and reads all of it
        raise
    _check_can_follow(folder, saved, schedule)
    return _steps(folder, saved)


def _check_can_follow(folder: Path, saved: Mapping[str, Any], schedule: BuiltSchedule) -> None:
    """AdaFactor's own rates and a schedule cannot follow one another: the optimizer's settings come from the state."""
    if (schedule.rebuild is None) != (saved["schedule_class"] == AdafactorRates.__name__):
        refuse_other(folder, saved, "schedule", schedule_class(schedule.schedule))


def _saved_rates(saved: Mapping[str, Any], commanded: Sequence[float]) -> list[float]:
    """The rates of the groups before any schedule, as the state's run had them; `commanded` where it does not tell."""
    rates = []
    bases = saved["schedule"].get("base_lrs", commanded)
    for group, base, own in zip(saved["optimizer"]["param_groups"], bases, commanded, strict=True):
        if OWN_RATE in group:
            rates.append(float(group[OWN_RATE]))
        else:  # a state of before; classes with a rate of their own put it in the place of the command's
            rates.append(own if "max_lr" in group else float(base) * group.get(RATIO, 1.0))
    return rates
