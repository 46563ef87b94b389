"""Whose a half-written file is: its name bears a mark of the process that writes it, so that nobody takes it from one that is alive."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
import zlib
from functools import cache
from pathlib import Path

from library.paths.opening import read_text

MARK = "[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{5,}"  # what is drawn; machine; second in which the process began, and its number
FOREIGN_AGE = 3600.0  # seconds after which one of another machine, whose processes cannot be asked for, has no writer any more
_SECONDS = 1 << 16  # that a mark tells apart
_UNSURE = 10  # seconds by which the beginning of a process may differ, as its machine's clock is set


def new_mark() -> str:
    """A mark of this process that no other file has."""
    number = os.getpid()
    return f"{uuid.uuid4().hex[:4]}-{_machine()}-{_began(number):04x}{number:x}"


def has_writer(path: Path, mark: str) -> bool:
    """Whether the process that made the file or folder `path` may still be writing it; yes where nothing can be found out."""
    import psutil

    _, machine, process = mark.split("-")
    try:
        if machine != _machine():
            return time.time() - path.stat().st_mtime < FOREIGN_AGE
        apart = (_began(int(process[4:], 16)) - int(process[:4], 16)) % _SECONDS
        return min(apart, _SECONDS - apart) <= _UNSURE  # one that began later only has its number
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError, ValueError, OverflowError):
        return True


def _began(process: int) -> int:
    """The second in which a process began, as far as a mark tells."""
    import psutil

    return int(psutil.Process(process).create_time()) % _SECONDS


@cache
def _machine() -> str:
    """Four signs for this machine, or this container: elsewhere process numbers mean other processes."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        parts.append(read_text("/etc/machine-id"))
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return f"{zlib.crc32(' '.join(parts).encode('utf-8', 'replace')) & 0xFFFF:04x}"
