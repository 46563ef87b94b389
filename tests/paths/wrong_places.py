"""Places that no reader can open and no writer can write to, made in a folder; and another user, for whom root's rights do not count."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534
ROOT = Path(__file__).parents[2]
# Words that the line for each place must hold.
TOLD = {
    "closed": "may not look into the folder",
    "unreadable": "may not read it",
    "closed folder": "may not look into the folder",
    "loop": "links lead in a circle",
    "dangling": "where nothing is",
    "long": "bytes, and a name may have 255",
    "deep": "more than this system takes",
    "nul": "a sign that no path can have",
    "half": "a sign that no path can have",
    "pipe": "is a named pipe, not a file",
    "socket": "is a socket, not a file",
    "device": "is a device, not a file",
}
ONLY_READ = {"unreadable", "closed folder"}  # a new file may take the place of one that cannot be read
PARTS = {"up": "../../x", "long": "n" * 300, "nul": "a\0b", "half": "a\ud800", "root": "/x"}


@contextlib.contextmanager
def made() -> Iterator[dict[str, str]]:
    """A folder that every user may enter, with what TOLD names in it: name -> path. `file` and `folder` are good ones."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o777)
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
        places |= {"half": root / "a\ud800.toml", "device": Path("/dev/zero"), "pipe": root / "pipe"}
        places |= {"closed": root / "closed" / "file", "unreadable": root / "unreadable", "closed folder": root / "empty closed"}
        os.mkfifo(places["pipe"])
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


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """Go on as a user without root's rights, where this process has them."""
    if getattr(os, "geteuid", lambda: 1)() != 0:
        yield
        return
    if not hasattr(os, "setresuid"):
        pytest.skip("this system cannot change the user and come back")
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        if not os.access(ROOT, os.R_OK | os.X_OK):
            pytest.skip("another user cannot read the project")
        yield
    finally:
        os.setresuid(0, 0, 0)


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
