"""PyTorch that does not load: whether that is what went wrong, and what to do about it."""

from __future__ import annotations

import sys
import traceback

from library.errors import Problem, coded, named_line

GET_STARTED = 'install PyTorch with the line that its "Get started" page (pytorch.org) shows for this system and CUDA version'
_LOAD_REMEDIES = (
    (("WinError 126", "WinError 127", "WinError 1114"), "install the Microsoft Visual C++ Redistributable (x64), then PyTorch again"),
    (("No module named 'torch'",), GET_STARTED),
    (("No module named",), "install the requirements again: pip install -r requirements.txt -c constraints.txt"),
    (
        ("MemoryError", "Cannot allocate memory", "cannot allocate memory", "failed to map segment", "WinError 1455"),
        "close other programs, or make the page file larger",
    ),
)


def torch_fault(error: BaseException) -> Problem | None:
    """The line about `error` if it is why `import torch` failed, otherwise None."""
    if not isinstance(error, ImportError | OSError | MemoryError) or "torch" in sys.modules:  # a module that fails is removed from there
        return None
    inside = any(frame.f_globals.get("__name__") == "torch" for frame, _ in traceback.walk_tb(error.__traceback__))
    missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
    if not inside and not missing:
        return None
    reason = named_line(error)
    return coded("PKG-002", f"PyTorch cannot be loaded ({reason}): {load_remedy(reason)}; tools/doctor.py shows more")


def load_remedy(reason: str) -> str:
    """Return the remedy for a package that does not load, from its error message."""
    for signs, remedy in _LOAD_REMEDIES:
        if any(sign in reason for sign in signs):
            return remedy
    return f"remove it and install it again: pip uninstall torch, then {GET_STARTED}"
