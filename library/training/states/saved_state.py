"""Reads the facts of a saved state, and refuses incomplete ones, before torch is imported."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from library.containers.archives import open_archive
from library.data.batching.sampler import Cut
from library.errors import UserError, coded
from library.parsing.bounds import TooMuch
from library.parsing.json_text import parse_json
from library.paths.faults import tree_fault
from library.paths.listing import matching
from library.paths.look import is_file, is_folder
from library.paths.opening import open_file, read_text
from library.paths.shell_words import shell_word
from library.training.states.accelerate_state import AccelerateState, is_accelerate_state, read_accelerate_state
from library.training.states.state import RunningMean, Standing, TrainState
from library.words import counted

FORMAT = 1
FACTS_FILE = "state.json"


@dataclass(frozen=True)
class SavedState:
    """A state folder: the position of its run, and `run`, the facts of that run (`library.training.states.resume.run_facts`)."""

    folder: Path
    state: TrainState
    run: Mapping[str, Any]


def facts_text(state: TrainState, run: Mapping[str, Any], files: Mapping[str, int], checksums: Mapping[str, int]) -> str:
    """Return the content of state.json.

    `files` are the sizes in bytes of all other files of the folder, by name; `checksums` are the CRC-32 of those whose format has no
    checksum.
    """
    facts = {"format": FORMAT, "state": asdict(state), "run": dict(run), "files": dict(files), "crc32": dict(checksums)}
    return json.dumps(facts, indent=1, ensure_ascii=False)


def read_state(folder: Path) -> SavedState | AccelerateState:
    """Read the state in `folder`, also in accelerate's format; raises UserError if it is damaged, incomplete or no state."""
    if is_folder(folder) and (fault := tree_fault(folder)):
        raise UserError(fault.reworded(f"--resume: {fault}"))
    if not is_file(folder / FACTS_FILE) and is_accelerate_state(folder):
        return read_accelerate_state(folder)
    return read_own(folder)


def read_own(folder: Path) -> SavedState:
    """Read a state of this suite."""
    facts = _read_facts(folder)
    try:
        if facts["format"] != FORMAT:
            raise UserError(
                coded(
                    "STATE-003",
                    f"--resume {folder}: was written by another version of this suite (format {facts['format']}); use that version",
                )
            )
        state = _state(facts["state"])
        run, files = dict(facts["run"]), dict(facts["files"])
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise UserError(coded("STATE-002", f"--resume {folder}: {FACTS_FILE} is damaged ({fault}); use an older state")) from fault
    for name, size in files.items():
        path = folder / name
        if not is_file(path) or path.stat().st_size != size:
            problem = "is missing" if not is_file(path) else f"has {counted(path.stat().st_size, 'byte')} instead of {size}"
            raise UserError(
                coded("STATE-002", f"--resume {folder}: the state is incomplete: {name} {problem}; copy it again, or use an older state")
            )
    return SavedState(folder, state, run)


def check_contents(folder: Path) -> None:
    """Read all files of a state and raise UserError if bytes have changed since they were written, as on a failing disk."""
    for name, checksum in _read_facts(folder).get("crc32", {}).items():  # older states have no checksums
        if crc32(folder / name) != checksum:
            raise UserError(
                coded("STATE-002", f"--resume {folder}: {name} is damaged: its content differs from what was written; use an older state")
            )
    for path in matching(folder, "*.pt"):
        try:
            with open_archive(path) as archive:
                archive.check_sums()
        except (OSError, ValueError) as fault:
            raise UserError(coded("STATE-002", f"--resume {folder}: {path.name} is damaged ({fault}); use an older state")) from fault


def crc32(path: Path) -> int:
    """Return the CRC-32 of a file, read in pieces of 1 MiB."""
    value = 0
    with open_file(path) as file:
        while piece := file.read(1 << 20):
            value = zlib.crc32(piece, value)
    return value


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS_FILE
    if not is_file(path):
        raise UserError(coded("STATE-001", f"--resume {folder}: {_what_it_is(folder)}"))
    try:
        facts = parse_json(read_text(path, "utf-8"))
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"--resume {folder}: {FACTS_FILE} {fault.what}; use an older state")) from fault
    except (ValueError, OSError) as fault:
        raise UserError(coded("STATE-002", f"--resume {folder}: {FACTS_FILE} cannot be read ({fault}); use an older state")) from fault
    if not isinstance(facts, dict):
        raise UserError(coded("STATE-002", f"--resume {folder}: {FACTS_FILE} is damaged (it is not a table); use an older state"))
    return facts


def _what_it_is(folder: Path) -> str:
    inside = sorted((path.parent for path in matching(folder, f"*/{FACTS_FILE}")), key=lambda path: (path / FACTS_FILE).stat().st_mtime)
    if inside:
        return f"is not a saved state but contains {len(inside)}; the newest is --resume {shell_word(inside[-1])}"
    return f"is not a saved state (it has no {FACTS_FILE}); use a folder <name>-…-state that --save_state wrote"


def _state(saved: Mapping[str, Any]) -> TrainState:
    cuts = tuple(Cut(tuple(int(size) for size in cut["sizes"]), int(cut["batches"])) for cut in saved["cuts"])
    mean = None if saved["mean"] is None else RunningMean(**saved["mean"])
    state = TrainState(
        seed=_count(saved, "seed"),
        step=_count(saved, "step"),
        epoch=_count(saved, "epoch"),
        position=_count(saved, "position"),
        cuts=cuts,
        mean=mean,
        epoch_losses=[float(loss) for loss in saved["epoch_losses"]],
        validated=Standing(**saved.get("validated", {})),
        left_out=tuple(str(key) for key in saved.get("left_out", ())),
    )
    return replace(state, session=str(saved["session"])) if "session" in saved else state  # older states have no session


def _count(saved: Mapping[str, Any], name: str) -> int:
    value = saved[name]
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} is {value!r}")
    return value
