"""Shows which process writes an incomplete file: the mark in its name identifies the process, so that others leave the file alone."""

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

MARK = "[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{5,}"  # random part; machine; start second and id of the process
FOREIGN_AGE = 3600.0  # seconds after which a file from another machine, whose processes cannot be checked, counts as abandoned
_SECONDS = 1 << 16  # start seconds are modulo this number
_UNSURE = 10  # seconds by which a start time may differ, since the machine's clock is adjusted


def new_mark() -> str:
    """A unique mark of this process."""
    number = os.getpid()
    return f"{uuid.uuid4().hex[:4]}-{_machine()}-{_began(number):04x}{number:x}"


def has_writer(path: Path, mark: str) -> bool:
    """Whether the process that created the file or folder `path` may still be writing it; True if that cannot be checked."""
    import psutil

    _, machine, process = mark.split("-")
    try:
        if machine != _machine():
            return time.time() - path.stat().st_mtime < FOREIGN_AGE
        apart = (_began(int(process[4:], 16)) - int(process[:4], 16)) % _SECONDS
        return min(apart, _SECONDS - apart) <= _UNSURE  # a process with another start time only has the same id
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError, ValueError, OverflowError):
        return True


def _began(process: int) -> int:
    """The second in which a process started, modulo `_SECONDS`."""
    import psutil

    return int(psutil.Process(process).create_time()) % _SECONDS


@cache
def _machine() -> str:
    """Four characters for this machine or container: on others, the same process ids mean other processes."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        parts.append(read_text("/etc/machine-id"))
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return f"{zlib.crc32(' '.join(parts).encode('utf-8', 'replace')) & 0xFFFF:04x}"
