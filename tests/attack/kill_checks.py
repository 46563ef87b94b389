"""What must be true of a run's folder after a kill, and of its end: all reads, nothing is left over or missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from library.errors import UserError
from library.training.logs.event_log import read_events
from library.training.samples.sample_page import SamplePage
from library.training.states.saved_state import check_contents, read_own

INDEX = ".sd-scan.json"  # hidden, and meant to stay


def newest_state(folder: Path) -> Path | None:
    """Of the states in the folder the one with most updates; of two that of the later moment, an epoch's end."""
    found = [path for path in folder.glob("*-state") if not path.name.startswith(".")] if folder.is_dir() else []
    states = {path: read_own(path).state for path in found}
    return max(found, key=lambda path: (states[path].step, states[path].epoch), default=None)


def share_left(folder: Path, updates: int) -> float:
    """How much of a run is still to do, as far as its states tell."""
    state = newest_state(folder)
    return 1.0 if state is None else 1.0 - read_own(state).state.step / updates


def unreadable(place: Path) -> Iterator[str]:
    """Every file with a name of its own that does not read, after a kill."""
    for path in sorted(place.rglob("*")):
        inside = path.relative_to(place).parts
        if any(part.startswith(".") for part in inside) or not path.is_file() or "logs" in inside:
            continue
        try:
            _read(path)
        except (OSError, ValueError, RuntimeError, SyntaxError, EOFError, KeyError, UserError, torch.cuda.CudaError) as fault:
            yield f"{path.relative_to(place)} does not read: {fault!r}"
        except Exception as fault:  # safetensors and pickles have errors of their own
            yield f"{path.relative_to(place)} does not read: {fault!r}"


def _read(path: Path) -> None:
    if path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix in (".pt", ".ckpt"):
        torch.load(path, weights_only=True)
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            assert [arrays[name] for name in arrays.files]
    elif path.suffix == ".png":
        with Image.open(path) as image:
            image.load()
    elif path.name == "state.json":
        read_own(path.parent)
        check_contents(path.parent)
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".html":
        assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    elif path.name == "events.jsonl":  # half a line at the end is what a kill may leave
        assert all(json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))


def compare(whole: Path, parts: Path, killed_after_all: bool = False) -> Iterator[str]:
    """What differs at the end of a run that was killed from one that was not. One that was `killed_after_all`, with its last state written,
    has no resumed run that could add the last lines of its log."""
    hidden = [path for path in parts.rglob(".*") if path.name != INDEX]
    if hidden:
        yield f"left over: {[str(path.relative_to(parts)) for path in hidden]}"
    names = {place: _names(place / "out") for place in (whole, parts)}
    if names[whole] != names[parts]:
        yield f"other names: {sorted(names[whole] ^ names[parts])}"
    for name in sorted(names[whole] & names[parts]):
        one, other = whole / "out" / name, parts / "out" / name
        if name.endswith(".safetensors") and not _equal(load_file(one), load_file(other)):
            yield f"{name} holds other weights"
        elif name.endswith("-state"):
            yield from (f"{name}: {fault}" for fault in _state_faults(one, other))
    for what, found in (("samples", _samples), ("latents", _latents), ("events", _events)):
        first, second = found(whole), found(parts)
        if what == "events" and killed_after_all:
            first = {key: count for key, count in first.items() if key in second}
        if first != second:
            differ = sorted(str(key) for key in first.keys() | second.keys() if first.get(key) != second.get(key))
            yield f"other {what}: {differ[:8]}"


def compare_products(whole: Path, parts: Path) -> Iterator[str]:
    """What differs of the product, its average and the last state."""
    for path in (whole / "out").glob("*.safetensors"):
        if "step" not in path.name and "-0" not in path.name:
            other = parts / "out" / path.name
            if not other.exists() or not _equal(load_file(path), load_file(other)):
                yield f"{path.name} is missing or has other weights"
    last = parts / "out" / "cat-state"
    if not last.exists():
        yield "the last state is missing"
    else:
        yield from (f"{last.name}: {fault}" for fault in _state_faults(whole / "out" / "cat-state", last))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def _state_faults(one: Path, other: Path) -> Iterator[str]:
    if {path.name for path in one.iterdir()} != {path.name for path in other.iterdir()}:
        yield "other files"
        return
    for path in one.glob("*.safetensors"):
        if not _equal(load_file(path), load_file(other / path.name)):
            yield f"{path.name} holds other weights"
    for path in one.glob("*.pt"):
        if not _equal(torch.load(path, weights_only=True), torch.load(other / path.name, weights_only=True)):
            yield f"{path.name} differs"
    facts = [json.loads((folder / "state.json").read_text(encoding="utf-8")) for folder in (one, other)]
    for table in facts:
        table["state"].pop("session")
    if facts[0]["state"] != facts[1]["state"]:
        yield f"other counters: {facts[0]['state']} and {facts[1]['state']}"


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _samples(place: Path) -> dict[object, object]:
    """The newest image of each prompt and moment."""
    found = {}
    for sample in SamplePage(place / "out" / "sample", "cat").samples():
        with Image.open(sample.path) as image:
            found[sample.moment, sample.index] = image.tobytes()
    return found


def _latents(place: Path) -> dict[object, object]:
    found = {}
    for path in sorted((place / "images").glob("*.npz")):
        with np.load(path) as arrays:
            found[path.name] = {name: arrays[name].tobytes() for name in arrays.files}
    return found


def _events(place: Path) -> Counter[object]:
    """How often the run's last session tells of each thing; times and file dates left out."""
    lines = read_events(place / "out" / "events.jsonl")
    session = lines[-1]["session"]
    told: Counter[object] = Counter()
    for line in lines:
        if line["session"] == session and line["event"] not in ("start", "stopped"):
            about = line.get("file") or (len(line["files"]) if "files" in line else line.get("loss/current"))
            told[line["event"], line["step"], str(about)] += 1
    return told
