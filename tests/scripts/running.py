"""Starts a script in this process, as a user would start it, and gives back what it left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from library.console import run_script


def run_in_process(main: Callable[[Sequence[str]], None], *argv: object) -> int:
    """Exit code of the script's `main` under `argv`; the launcher's settings, of which a real process has one, are reset afterwards."""
    try:
        return run_script(main, [str(item) for item in argv])
    finally:
        state = sys.modules.get("accelerate.state")
        if state is not None:
            state.AcceleratorState._reset_state(reset_partial_state=True)
            state.GradientState._reset_state()


def kept(folder: Path) -> list[str]:
    """The names of what a run has saved in its output folder, without its log, its manifest and its ledger of images."""
    beside = (".run.json", ".images.jsonl", ".images.html")
    return sorted(path.name for path in folder.iterdir() if path.name != "events.jsonl" and not path.name.endswith(beside))


def tensors_equal(one: Path, other: Path) -> bool:
    """Whether two safetensors files hold the same tensors, bit for bit."""
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def largest_difference(one: Path, other: Path) -> float:
    """Largest absolute difference over all tensors of two safetensors files."""
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)
