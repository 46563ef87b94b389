"""State folders of accelerate, as sd-scripts writes them: how far their run got, read before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from library.containers.pickles import read_content
from library.errors import UserError, coded
from library.parsing.json_text import parse_json
from library.paths.listing import matching
from library.paths.look import is_file
from library.paths.opening import read_text
from library.words import counted

_OPTIMIZER, _SCHEDULE, _SCALER, _POSITION = "optimizer.bin", "scheduler.bin", "scaler.pt", "train_state.json"
_WEIGHTS = (("model", ".safetensors"), ("pytorch_model", ".bin"))  # current names, and those of accelerate before 0.22


@dataclass(frozen=True)
class AccelerateState:
    """The files of the state and the number of updates done, if recorded; `step_source` says where that comes from."""

    folder: Path
    weights: tuple[Path, ...]
    optimizer: Path | None
    schedule: Path | None
    scaler: Path | None
    processes: int
    step: int | None
    step_source: str


def is_accelerate_state(folder: Path) -> bool:
    """Return whether accelerate's `save_state` wrote the folder."""
    return is_file(folder / _OPTIMIZER) or bool(_weights(folder))


def read_accelerate_state(folder: Path) -> AccelerateState:
    """Read the folder; raises UserError if its weights are missing."""
    weights = _weights(folder)
    if not weights:
        raise UserError(
            coded("STATE-002", f"--resume {folder}: is a state in accelerate's format, but its weights are missing (model.safetensors)")
        )
    processes = max(1, len(matching(folder, "random_states_*.pkl")))
    scheduled = _schedule_count(folder / _SCHEDULE)
    position = _position(folder / _POSITION)
    step = None
    source = f"neither {_SCHEDULE} nor {_POSITION} records how many updates were done, so they count from 1; set it with --initial_step"
    if scheduled is not None:
        # accelerate steps the schedule once per process. The count of train_state.json restarts at each resume.
        step = scheduled // processes
        source = f"{_done(step)}, according to {_SCHEDULE}"
        if position is not None and position not in (step, step + 1):
            source += f" ({_POSITION} says {position}; to continue from there, use --initial_step {position})"
    elif position is not None:
        step, source = position, f"{_done(position)}, according to {_POSITION}"
    present = {name: folder / name if is_file(folder / name) else None for name in (_OPTIMIZER, _SCHEDULE, _SCALER)}
    return AccelerateState(folder, weights, present[_OPTIMIZER], present[_SCHEDULE], present[_SCALER], processes, step, source)


def accelerate_lines(accelerate: AccelerateState) -> Sequence[str]:
    """Return what the user must know when resuming from such a state."""
    missing = [name for name, path in ((_OPTIMIZER, accelerate.optimizer), (_SCHEDULE, accelerate.schedule)) if path is None]
    return (
        f"a state in accelerate's format (sd-scripts): {accelerate.step_source}",
        "it records neither the position in the epoch nor the order of images: the current epoch starts again "
        "(--skip_until_initial_step skips as many batches as were done of it), and randomness follows this suite",
        *(f"{name} is missing: that part is reset" for name in missing),
    )


def _done(updates: int) -> str:
    return counted(updates, "update is done", "updates are done")


def _weights(folder: Path) -> tuple[Path, ...]:
    for stem, ending in _WEIGHTS:
        files: list[Path] = []
        while is_file(path := folder / f"{stem}{'' if not files else f'_{len(files)}'}{ending}"):
            files.append(path)
        if files:
            return tuple(files)
    return ()


def _schedule_count(path: Path) -> int | None:
    """Read the schedule's own counter without executing anything; returns None if there is none."""
    try:
        content = read_content(path)
    except (OSError, ValueError):  # missing, older than zip archives, or damaged: loading it with torch reports that, if it matters
        return None
    count = content.get("last_epoch") if isinstance(content, dict) else None
    return count if type(count) is int and count > 0 else None


def _position(path: Path) -> int | None:
    try:
        count = parse_json(read_text(path, "utf-8")).get("current_step")
    except (OSError, ValueError, AttributeError):
        return None
    return count if type(count) is int and count >= 0 else None
