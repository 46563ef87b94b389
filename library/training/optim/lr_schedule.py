"""Builds the learning rate schedule: a named curve over the updates of the run, or a class that the user names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from library.errors import UserError, coded, in_plain_words
from library.light_imports.later import left_for_later
from library.light_imports.models import LATER
from library.options.reading.named_class import (
    check_arguments,
    did_you_mean,
    import_package,
    parse_arguments,
)
from library.training.optim.group_curves import GroupCurves, check_floor, check_share
from library.training.optim.lr_schedule_table import ADAFACTOR, BY_NAME, ScheduleRow
from library.training.optim.optimizer_table import row_of_class
from library.training.optim.rebuild import Rebuild
from library.training.optim.schedule_class import ScheduleClass
from library.words import counted

_OPTION, _CUSTOM, _ARGS = "--lr_scheduler", "--lr_scheduler_type", "--lr_scheduler_args"


T = TypeVar("T")
_FLAGS = {
    "num_warmup_steps": "--lr_warmup_steps",
    "num_cycles": "--lr_scheduler_num_cycles",
    "power": "--lr_scheduler_power",
    "num_decay_steps": "--lr_decay_steps",
    "timescale": "--lr_scheduler_timescale",
    "min_lr_rate": "--lr_scheduler_min_lr_ratio",
    "min_lr_ratio": "--lr_scheduler_min_lr_ratio",
}


@dataclass(frozen=True, eq=False)
class BuiltSchedule:
    """`schedule.step()` is due once after every update; `notes` and `warnings` are lines for the user.

    `rebuild` is None where the optimizer sets its own rates, which the schedule only reports.
    """

    schedule: LRScheduler
    name: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    rebuild: Rebuild | None = None


def make_schedule(
    optimizer: Optimizer,
    name: str,
    *,
    updates: int,
    warmup: int = 0,
    cycles: int = 1,
    power: float = 1.0,
    decay: int = 0,
    min_ratio: float | None = None,
    timescale: int | None = None,
    scheduler_type: str = "",
    args: Sequence[str] | None = None,
    forced: str | None = None,
    steps: int | None = None,
) -> BuiltSchedule:
    """The schedule `name` over all `updates` of the run, of which `warmup` rise from 0 and the last `decay` fall (0: a tenth).

    All figures count updates, regardless of processes and accumulated batches; `min_ratio` is a share of the rate; `timescale` None means
    the length of the warm-up. `scheduler_type`, a class of torch.optim.lr_scheduler or module.Class, overrides `name`; `forced` (an
    optimizer's own) overrides both. `args` are `key=value` texts for the curve or the class. `steps` is the number of updates that it is
    stepped for, where that is not `updates`: a class that ends earlier is refused. Raises UserError.
    """
    arguments = parse_arguments(_ARGS, args)
    if forced == ADAFACTOR:
        other = scheduler_type or name
        notes = (
            () if other == ADAFACTOR else (f"{_OPTION} {ADAFACTOR} is used, because the optimizer sets its own rates; {other} is ignored",)
        )
        _refuse_arguments(arguments, ADAFACTOR)
        return BuiltSchedule(AdafactorRates(optimizer), ADAFACTOR, notes)
    if scheduler_type:
        return _custom(optimizer, scheduler_type, arguments, warmup, updates if steps is None else steps)
    if name.lower() == ADAFACTOR:
        raise UserError(
            coded("OPT-015", f"{_OPTION} {name}: is only for --optimizer_type AdaFactor with relative_step=True; choose another schedule")
        )
    row = BY_NAME.get(name.lower())
    if row is None:
        known = [*BY_NAME, ADAFACTOR]
        raise UserError(
            coded(
                "OPT-014",
                f"{_OPTION} {name}: is not known{did_you_mean(name, known)}; known are {', '.join(known)}; {_CUSTOM} takes a class",
            )
        )
    asked = {
        "num_warmup_steps": warmup if row.warmup else None,
        "num_training_steps": updates if row.updates else None,
        "num_cycles": cycles if row.cycles else None,
        "power": power if row.power else None,
        "num_decay_steps": decay or None if row.decay else None,
        "timescale": timescale if row.timescale else None,
    }
    figures = {key: value for key, value in asked.items() if value is not None}
    if row.floor and min_ratio is not None:
        figures[row.floor] = min_ratio
    unused = {
        f"--lr_decay_steps {decay}": decay and not row.decay and "warmup_stable_decay",
        f"--lr_scheduler_timescale {timescale}": timescale is not None and not row.timescale and "inverse_sqrt",
        f"--lr_scheduler_min_lr_ratio {min_ratio}": min_ratio is not None and not row.floor and "cosine_with_min_lr",
    }
    warnings = [f"{flag}: {_OPTION} {row.name} does not use it; {better} does" for flag, better in unused.items() if better]
    return _named(optimizer, row, arguments, updates, warmup, figures, warnings)


class AdafactorRates(LRScheduler):
    """Reports the rates that AdaFactor finds itself: of each group, that of its first parameter (Shazeer & Stern 2018, sec. 6 to 8).

    It changes nothing; it takes the place of other optimizers' schedule. 0 until a group has had its first update.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", 0.0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        return [_adafactor_rate(group, self.optimizer.state.get(group["params"][0], {})) for group in self.optimizer.param_groups]


def _adafactor_rate(group: Mapping[str, Any], state: Mapping[str, Any]) -> float:
    step = state.get("step", 0)
    if not step:
        return 0.0
    rate = min(1e-6 * step if group["warmup_init"] else 1e-2, step**-0.5)
    return float(rate * (max(group["eps"][1], float(state["RMS"])) if group["scale_parameter"] else 1.0))


def _named(
    optimizer: Optimizer,
    row: ScheduleRow,
    arguments: dict[str, Any],
    updates: int,
    warmup: int,
    figures: dict[str, Any],
    warnings: list[str],
) -> BuiltSchedule:
    with left_for_later(LATER):
        build = getattr(import_package(_OPTION, row.name, row.module, row.module.partition(".")[0]), row.function)
    check_arguments(_ARGS, row.name, build, arguments, _ours(figures), needs_all=False)
    notes = _complete(row, arguments, figures)
    if warmup and not row.warmup:
        better = "constant_with_warmup" if row.name == "constant" else "another schedule"
        warnings.append(f"--lr_warmup_steps {warmup}: {_OPTION} {row.name} has no warm-up, so this is ignored; use {better} for a warm-up")
    elif warmup and (of := row_of_class(type(optimizer))) is not None and of.divides_by_first_rate:
        raise UserError(
            coded("OPT-015", f"--lr_warmup_steps {warmup}: {of.name} divides by its first rate, 0 in a warm-up; use --lr_warmup_steps 0")
        )
    elif warmup >= updates > 0:
        warnings.append(
            f"--lr_warmup_steps {warmup}: the run has only {counted(updates, 'update')}, so the full learning rate is never reached"
        )
    check_arguments(_ARGS, row.name, build, arguments, _ours(figures))
    _check_floors(row, optimizer, build, arguments)
    one = partial(build, **figures, **arguments)
    before = [dict(group) for group in optimizer.param_groups]
    schedule = _build(f"{_OPTION} {row.name}", lambda: GroupCurves(optimizer, one), arguments)
    rebuild = Rebuild(partial(GroupCurves, optimizer, one), before, frozenset({"initial_lr"}))
    return BuiltSchedule(schedule, row.name, tuple(notes), tuple(warnings), rebuild)


def _check_floors(row: ScheduleRow, optimizer: Optimizer, build: Callable[..., LRScheduler], arguments: Mapping[str, Any]) -> None:
    """Refuse a lowest rate above a part's rate, which would rise to it."""
    what = f"{_OPTION} {row.name}"
    if row.absolute_floor:
        default = inspect.signature(build).parameters[row.absolute_floor].default
        floor = arguments.get(row.absolute_floor, default)
        check_floor(what, {row.absolute_floor: floor}, optimizer, row.absolute_floor not in arguments)
    check_share(what, {key: value for key, value in arguments.items() if key == row.floor})


def _complete(row: ScheduleRow, arguments: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    """Add to `arguments` what the curve needs and the user left out; return notes about it."""
    if row.name == "cosine_with_min_lr" and not {"min_lr", "min_lr_rate"} & (arguments.keys() | figures.keys()):
        arguments["min_lr_rate"] = 0.1
        return [f"{row.name}: ends at a tenth of the learning rate; change that with --lr_scheduler_min_lr_ratio or {_ARGS} min_lr=…"]
    if row.name != "warmup_stable_decay":
        return []
    notes = []
    updates, warmup = figures["num_training_steps"], figures["num_warmup_steps"]
    if "num_decay_steps" not in arguments.keys() | figures.keys():
        arguments["num_decay_steps"] = max(1, updates // 10)
        notes.append(
            f"{row.name}: falls over the last {counted(arguments['num_decay_steps'], 'update')}, a "
            f"tenth of all; change that with --lr_decay_steps"
        )
    decay = figures.get("num_decay_steps", arguments.get("num_decay_steps"))
    if "num_stable_steps" in arguments:
        del figures["num_training_steps"]
    elif warmup + decay > updates:
        both = f"{warmup} of warm-up and {decay} of decay"
        raise UserError(coded("OPT-015", f"{_OPTION} {row.name}: {both} exceed the run's {counted(updates, 'update')}; lower one of them"))
    return notes


def _custom(optimizer: Optimizer, dotted: str, arguments: dict[str, Any], warmup: int, steps: int) -> BuiltSchedule:
    chosen = ScheduleClass.find(dotted, arguments)
    what = f"{_CUSTOM} {dotted}"
    before = [dict(group) for group in optimizer.param_groups]
    _build(what, lambda: chosen.check(optimizer, steps), arguments)
    schedule = _build(what, lambda: chosen.build(optimizer), arguments)
    unused = (f"--lr_warmup_steps {warmup}: is not used with {what}",) if warmup else ()
    rebuild = Rebuild(partial(chosen.build, optimizer), before, frozenset().union(*optimizer.param_groups) - frozenset().union(*before))
    return BuiltSchedule(schedule, dotted, (f"{what} replaces {_OPTION}", *chosen.remarks()), unused, rebuild)


def _ours(figures: Mapping[str, Any]) -> dict[str, str]:
    """Arguments that the user cannot set here, with the option to use instead."""
    ours = {key: f"is set with {_FLAGS[key]}" for key in figures if key in _FLAGS}
    return {"optimizer": "", "last_epoch": "", **({"num_training_steps": ""} if "num_training_steps" in figures else {}), **ours}


def _refuse_arguments(arguments: Mapping[str, Any], name: str) -> None:
    if arguments:
        raise UserError(coded("OPT-011", f"{_ARGS} {' '.join(arguments)}: {name} takes no arguments; remove them"))


def _build(what: str, build: Callable[[], T], arguments: Mapping[str, Any]) -> T:
    """What `build` returns; an error of the library becomes a UserError with its message."""
    try:
        return build()
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError, KeyError, IndexError, AttributeError) as error:
        shown = f" with {_ARGS} {' '.join(f'{key}={value}' for key, value in arguments.items())}" if arguments else ""
        raise UserError(coded("OPT-011", f"{what}{shown}: refused: {in_plain_words(error)}")) from error
