"""The curves that --lr_scheduler knows by name, one row each; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class ScheduleRow:
    """A curve: the function that builds it and which figures of the command line it takes; `floor` names its lowest share of the rate."""

    name: str
    module: str
    function: str
    warmup: bool = False
    updates: bool = False
    cycles: bool = False
    power: bool = False
    decay: bool = False
    timescale: bool = False
    floor: str = ""
    absolute_floor: str = ""  # the argument that names the lowest rate itself


# Most are in both packages; diffusers' module imports almost nothing else.
_DIFFUSERS, _TRANSFORMERS = "diffusers.optimization", "transformers.optimization"

SCHEDULES: tuple[ScheduleRow, ...] = (
    ScheduleRow("constant", _DIFFUSERS, "get_constant_schedule"),
    ScheduleRow("constant_with_warmup", _DIFFUSERS, "get_constant_schedule_with_warmup", warmup=True),
    ScheduleRow("linear", _DIFFUSERS, "get_linear_schedule_with_warmup", warmup=True, updates=True),
    ScheduleRow("cosine", _DIFFUSERS, "get_cosine_schedule_with_warmup", warmup=True, updates=True),
    ScheduleRow(
        "cosine_with_restarts", "library.training.optim.floored_restarts", "cosine_with_restarts", warmup=True, updates=True, cycles=True,
        floor="min_lr_ratio",
    ),
    ScheduleRow(
        "polynomial", _DIFFUSERS, "get_polynomial_decay_schedule_with_warmup", warmup=True, updates=True, power=True,
        absolute_floor="lr_end",
    ),
    ScheduleRow("inverse_sqrt", _TRANSFORMERS, "get_inverse_sqrt_schedule", warmup=True, timescale=True),
    ScheduleRow(
        "cosine_with_min_lr", _TRANSFORMERS, "get_cosine_with_min_lr_schedule_with_warmup", warmup=True, updates=True, floor="min_lr_rate",
        absolute_floor="min_lr",
    ),
    ScheduleRow("warmup_stable_decay", _TRANSFORMERS, "get_wsd_schedule", warmup=True, updates=True, decay=True, floor="min_lr_ratio"),
    ScheduleRow("piecewise_constant", _DIFFUSERS, "get_piecewise_constant_schedule"),
)  # fmt: skip
BY_NAME: Mapping[str, ScheduleRow] = MappingProxyType({row.name: row for row in SCHEDULES})
ADAFACTOR = "adafactor"
