"""Schedules that are classes (--lr_scheduler_type): imported, checked, and stepped through the whole run before training starts."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from library.errors import UserError, coded, in_plain_words
from library.options.reading.named_class import check_arguments, classes_of, did_you_mean, find_class, import_class
from library.training.optim.group_curves import check_floor
from library.training.optim.parts.rate_ratios import RATIO
from library.words import counted

OPTION, ARGS = "--lr_scheduler_type", "--lr_scheduler_args"
FLOORS = ("eta_min", "min_lr", "lr_min", "lr_end")  # arguments of classes for a lowest rate, the same for all groups
PEAKS = ("max_lr", "base_lr")  # arguments of classes that replace the command's rates
_OURS = {"optimizer": "", "last_epoch": ""}


@dataclass(frozen=True)
class ScheduleClass:
    """A class with its arguments; `dotted` is its name as the user wrote it."""

    dotted: str
    target: Callable[..., LRScheduler]
    arguments: Mapping[str, object]

    @classmethod
    def find(cls, dotted: str, arguments: Mapping[str, object]) -> ScheduleClass:
        """The class of torch.optim.lr_scheduler, or module.Class. Raises UserError for one that training cannot step."""
        base = (LRScheduler, torch.optim.lr_scheduler._LRScheduler)
        target = import_class(OPTION, dotted) if "." in dotted else find_class(torch.optim.lr_scheduler, base, dotted)
        if target is None:
            known = sorted(classes_of(torch.optim.lr_scheduler, base))
            raise UserError(
                coded(
                    "OPT-014",
                    f"{OPTION} {dotted}: is not known{did_you_mean(dotted, known)}; known are {', '.join(known)}, and module.Class",
                )
            )
        step = getattr(target, "step", None)
        if step is None or Optimizer in target.__mro__ or not callable(getattr(target, "state_dict", None)):
            raise UserError(coded("OPT-014", f"{OPTION} {dotted}: is not a learning rate scheduler (it has no step or no state_dict)"))
        parameters = list(inspect.signature(step).parameters.values())[1:]
        needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if needed:
            raise UserError(
                coded(
                    "OPT-014",
                    f"{OPTION} {dotted}: needs {', '.join(needed)} at every update, which training cannot provide; choose another",
                )
            )
        check_arguments(ARGS, dotted, target, arguments, _OURS)
        return cls(dotted, target, arguments)

    @property
    def name(self) -> str:
        """The option and its arguments, as on the command line."""
        shown = " ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{OPTION} {self.dotted}" + (f" with {ARGS} {shown}" if shown else "")

    def build(self, optimizer: Optimizer) -> LRScheduler:
        """The schedule at its start."""
        return self.target(optimizer, **self.arguments)

    def check(self, optimizer: Optimizer, steps: int) -> None:
        """Raise UserError for floors above a part's rate, and if the schedule ends or fails before `steps` updates."""
        floors = {key: value for key, value in self.arguments.items() if key in FLOORS and isinstance(value, int | float)}
        check_floor(f"{OPTION} {self.dotted}", floors, optimizer)
        if any(floors.values()) and any(RATIO in group for group in optimizer.param_groups):
            raise UserError(
                coded(
                    "OPT-015",
                    f"{self.name}: it has one lowest rate for all parts, but the parts have different rates here and the optimizer one "
                    "rate; use --lr_scheduler cosine_with_min_lr, or make the rates equal",
                )
            )
        walk = _walk(self, optimizer, steps)
        if walk.steps >= steps:
            return
        remedy = self._remedy(optimizer, steps, walk.steps)
        if remedy:
            raise UserError(
                coded(
                    "OPT-015", f"{self.name}: ends after {counted(walk.steps, 'update')}, and this run needs {steps}; set {ARGS} {remedy}"
                )
            )
        raise UserError(
            coded("OPT-015", f"{self.name}: cannot continue after update {walk.steps} of {steps}: {walk.reason}; change its arguments")
        )

    def remarks(self) -> Iterator[str]:
        """Notes on options that have no effect with this class."""
        peaks = [key for key in PEAKS if key in self.arguments]
        if peaks:
            yield f"{self.name}: {peaks[0]} replaces --learning_rate and the rates of parts"

    def _remedy(self, optimizer: Optimizer, steps: int, ended: int) -> str:
        """Arguments, as typed, with which the schedule lasts for `steps` updates; "" if none is known."""
        lengths = {k: v for k, v in self.arguments.items() if isinstance(v, int) and not isinstance(v, bool) and abs(v - ended) <= 1}
        trials: list[dict[str, object]] = [{key: steps + value - ended} for key, value in lengths.items()]
        if "total_steps" in inspect.signature(self.target).parameters:
            trials.insert(0, {"total_steps": steps})
        for trial in trials:
            rest = {key: value for key, value in self.arguments.items() if key not in ("epochs", "steps_per_epoch")}
            longer = ScheduleClass(self.dotted, self.target, {**rest, **trial})
            if _walk(longer, optimizer, steps).steps >= steps:
                return " ".join(f"{key}={value}" for key, value in trial.items())
        return ""


@dataclass(frozen=True)
class _Walk:
    """How many updates a schedule lasted, and why it ended."""

    steps: int
    reason: str = ""


class _StandIn(Optimizer):
    """An optimizer with the groups of another and nothing to train."""

    def __init__(self, optimizer: Optimizer) -> None:
        groups = [{**group, "params": [torch.nn.Parameter(torch.zeros(()))]} for group in optimizer.param_groups]
        super().__init__(groups, dict(optimizer.defaults))

    def step(self, closure: object = None) -> None:  # type: ignore[override]  # torch types it by an overload
        """Does nothing."""


def _walk(schedule_class: ScheduleClass, optimizer: Optimizer, steps: int) -> _Walk:
    """Step the schedule once per update, on a copy of the optimizer's groups."""
    stand_in = _StandIn(optimizer)
    for group in stand_in.param_groups:
        group.pop("initial_lr", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schedule = schedule_class.build(stand_in)
        stand_in.step()
        for step in range(steps):
            wrong = [rate for rate in (float(group["lr"]) for group in stand_in.param_groups) if not (math.isfinite(rate) and rate >= 0)]
            if wrong:
                return _Walk(step, f"the learning rate is {wrong[0]:g} then")
            try:
                schedule.step()
            except Exception as fault:  # a class may raise any error where it ends
                return _Walk(step, in_plain_words(fault))
    return _Walk(steps)
