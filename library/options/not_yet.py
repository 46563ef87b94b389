"""Options that are accepted by name but not built yet: using one stops the run and says so; none is ever silently ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NotYet:
    """`row` is the requirement it waits for; `values` the only values that are missing, or None when the whole option is."""

    row: str
    meanwhile: str
    values: tuple[Any, ...] | None = None


NOT_YET: dict[str, NotYet] = {
    "dataset_class": NotYet("D5", "describe the images with --dataset_config"),
}


def refusal(field: str, value: Any, default: Any) -> str | None:
    """What to tell the user who gave `value`, or None when it may be used."""
    entry = NOT_YET.get(field)
    if entry is None or value == default or (entry.values is not None and value not in entry.values):
        return None
    which = "" if entry.values is None else f"{value} is "
    return f"{which}not built yet (requirement {entry.row}); meanwhile {entry.meanwhile}"
