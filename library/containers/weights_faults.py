"""The errors for files of weights that cannot be read: the drive, the content, or code in them."""

from __future__ import annotations

import errno
from pathlib import Path

from library.containers.archives import DAMAGED
from library.containers.pickles import NO_TABLE, ContainsCode
from library.errors import Problem, coded, first_line
from library.paths.faults import file_fault

AGAIN = "download or copy it again"
_DRIVE = "check the drive, or copy the file to another one"


def not_opened(path: Path, option: str, fault: OSError) -> Problem:
    """The error for a file that the system does not read: what is at its path if that says why, else the system's reason."""
    if known := file_fault(path):
        return known.reworded(f"{option}: {known}")
    return _not_read(f"{option} {path}", fault)


def not_understood(path: Path, option: str, fault: ValueError | OSError) -> Problem:
    """The error for a pickle whose content, or whose drive, is damaged."""
    if isinstance(fault, OSError) and _is_of_the_drive(fault):
        return not_opened(path, option, fault)
    if str(fault) == NO_TABLE:
        return coded("FILE-006", f"{option} {path}: {NO_TABLE}; use a file of named tensors")
    return _damaged(f"{option} {path}", fault)


def broken_off(source: str, fault: ValueError | OSError) -> Problem:
    """The error for tensors that cannot be read from an open pickle, which `source` names."""
    return _not_read(source, fault) if isinstance(fault, OSError) and _is_of_the_drive(fault) else _damaged(source, fault)


def code_refusal(source: str, fault: ContainsCode) -> Problem:
    """The error for a file with code, which `source` names."""
    return coded("FILE-006", f"{source}: {fault}; use a .safetensors file from a source that you trust")


def _not_read(source: str, fault: OSError) -> Problem:
    return coded("FILE-001", f"{source}: cannot be read ({fault.strerror or first_line(fault)}); {_DRIVE}")


def _damaged(source: str, fault: ValueError | OSError) -> Problem:
    return coded("FILE-005", f"{source}: {fault if isinstance(fault, ValueError) else DAMAGED}; {AGAIN}")


def _is_of_the_drive(fault: OSError) -> bool:
    """Whether the drive does not read; EINVAL is a place that a damaged file names and no file can have."""
    return fault.errno not in (None, errno.EINVAL)
