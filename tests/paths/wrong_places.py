"""Places that no reader can open and no writer can write to, made in a folder; and a user without root's rights."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_CAPABILITY_VERSION_3 = 0x20080522
_PASSING_OVER = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
# The code of the line for each place.
CODES = {
    "closed": "PATH-004",
    "unreadable": "PATH-004",
    "closed folder": "PATH-004",
    "loop": "PATH-006",
    "dangling": "PATH-006",
    "long": "PATH-008",
    "deep": "PATH-008",
    "nul": "PATH-009",
    "half": "PATH-009",
    "pipe": "PATH-007",
    "socket": "PATH-007",
    "device": "PATH-007",
}
ONLY_READ = {"unreadable", "closed folder"}  # a new file may take the place of one that cannot be read
PARTS = {"up": "../../x", "long": "n" * 300, "nul": "a\0b", "half": "a\ud800", "root": "/x"}


@contextlib.contextmanager
def made() -> Iterator[dict[str, str]]:
    """A folder with what CODES names in it: name -> path. `file` and `folder` are good ones."""
    root = Path(tempfile.mkdtemp())
    (root / "closed").mkdir()
    for name in ("file", "unreadable", "closed/file"):
        (root / name).write_text("{}", encoding="utf-8")
    (root / "folder").mkdir()
    (root / "empty closed").mkdir()
    places = {
        "file": root / "file",
        "folder": root / "folder",
        "long": root / ("n" * 300 + ".toml"),
        "deep": root.joinpath(*["d" * 200] * 30),
        "nul": root / "a\0b.toml",
    }
    if os.name != "nt":
        places |= {"half": root / "a\ud800.toml", "pipe": root / "pipe"}
        places |= {"closed": root / "closed" / "file", "unreadable": root / "unreadable", "closed folder": root / "empty closed"}
        os.mkfifo(places["pipe"])
        places |= _device(root)
    with contextlib.suppress(OSError):  # Windows lets only some users make links
        for name, target in (("loop", root / "loop"), ("dangling", root / "nowhere")):
            (root / name).symlink_to(target)
            places[name] = root / name
    listener = socket.socket(socket.AF_UNIX) if os.name != "nt" else None
    if listener is not None:
        listener.bind(str(root / "socket"))
        places["socket"] = root / "socket"
    shut = [root / "closed", root / "empty closed", root / "unreadable"] if os.name != "nt" else []
    for path in shut:
        path.chmod(0)
    try:
        yield {name: str(path) for name, path in places.items()}
    finally:
        for path in shut:
            path.chmod(0o700)
        if listener is not None:
            listener.close()
        shutil.rmtree(root)


def _device(root: Path) -> dict[str, Path]:
    """A device like /dev/zero. Never that one itself where root runs the tests: code that fails them could put a file in its place."""
    if os.geteuid() != 0:
        return {"device": Path("/dev/zero")}
    try:
        os.mknod(root / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except OSError:  # a container may not make any
        return {}
    return {"device": root / "device"}


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """Continue without root's right to ignore permissions, where this process has it: as the owner of these files and folders.

    Not as another uid: Python itself may be installed where only root may read, and loads modules and encodings when they are first used.
    """
    if getattr(os, "geteuid", lambda: 1)() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root cannot drop its rights here and restore them")
    take_up = lay_down_rights()
    try:
        yield
    finally:
        take_up()


def lay_down_rights() -> Callable[[], None]:
    """Drop root's right to ignore permissions, on Linux; the function that is returned restores it."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)  # of this thread
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, for the first 32 and the next
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, rights) == 0
    all_of_them = rights[0]
    rights[0] &= ~_PASSING_OVER
    assert libc.capset(header, rights) == 0

    def take_up() -> None:
        rights[0] = all_of_them
        assert libc.capset(header, rights) == 0

    return take_up


@contextlib.contextmanager
def in_time(seconds: int = 20) -> Iterator[None]:
    """Fail instead of waiting for ever, where the system can ring."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        raise AssertionError(f"still waiting after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
