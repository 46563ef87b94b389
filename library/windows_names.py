"""Which file and folder names Windows accepts and how long its paths may be, checked before a run rather than at its first save."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PureWindowsPath

LONGEST = 259  # characters of a path, unless long paths are turned on
OWN = 97  # characters, at most, that the suite adds to --output_name: steps, dates and seeds of samples, marks of incomplete files
_FORBIDDEN = frozenset('<>:"|?*') | {chr(number) for number in range(32)}
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³")})


def name_fault(name: str) -> str | None:
    """Why Windows does not accept this file or folder name; None if it does."""
    forbidden = sorted(set(name) & _FORBIDDEN)
    if forbidden:
        return f"Windows allows no {' '.join(map(_shown, forbidden))} in names"
    if is_device(name):
        return f"{name.partition('.')[0]} is a device on Windows, with any extension"
    if name != name.rstrip(". "):
        return "Windows removes dots and spaces at the end of names"
    return None


def is_device(name: str) -> bool:
    """Whether Windows treats a file of this name as a device (con, nul, com1), with any ending."""
    return name.partition(".")[0].rstrip().lower() in _DEVICES


def path_fault(path: Path | str) -> str | None:
    """Why Windows does not accept this folder path; None if it does. Drives (C:) and shares are not checked as names."""
    pure = PureWindowsPath(path)
    parts = pure.parts[1:] if pure.anchor else pure.parts
    return next((fault for part in parts if part not in (".", "..") and (fault := name_fault(part))), None)


def length_fault(folder: Path, names: Iterable[str], added: int = OWN) -> str | None:
    """Why Windows cannot open a file in `folder` under one of `names` plus up to `added` characters; None if it can."""
    whole = str(folder.absolute())
    longest = len(whole) + 1 + max(map(len, names), default=0) + added
    if longest <= LONGEST or whole.startswith("\\\\?\\"):
        return None
    return (
        f"its files would have paths of up to {longest} characters, and this Windows allows {LONGEST}; "
        "choose shorter names, or turn on long paths (docs/windows.md)"
    )


@cache
def only_short_paths() -> bool:
    """Whether this is a Windows on which long paths are not turned on."""
    if os.name != "nt":
        return False
    winreg = importlib.import_module("winreg")  # exists only on Windows, also for type checkers
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return not winreg.QueryValueEx(key, "LongPathsEnabled")[0]
    except OSError:  # Windows before 10
        return True


def _shown(sign: str) -> str:
    return sign if sign.isprintable() else repr(sign)
