"""Checks what is at a path without ever raising: a file, a folder, nothing, or the reason why the system does not say."""

from __future__ import annotations

import enum
import errno
import os
import stat
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from library.telling.signs import plain_line
from library.windows_names import is_device

LONGEST_PART = 255  # bytes of a name between two slashes; Windows counts characters
_LONGEST_SHOWN = 200  # characters of a path in a line
_SPECIAL = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a drive"),
)
_CANNOT_RESOLVE, _TOO_LONG, _NO_SUCH_NAME = 1921, 206, 123  # Windows errors that errno does not distinguish


class Thing(enum.Enum):
    """Kind of object at a path."""

    FILE = enum.auto()
    FOLDER = enum.auto()
    MISSING = enum.auto()
    DANGLING = enum.auto()  # a broken link
    LOOP = enum.auto()  # links that form a loop
    DENIED = enum.auto()  # below a folder that this user may not enter
    TOO_LONG = enum.auto()
    IMPOSSIBLE = enum.auto()  # not a valid path on this system
    SPECIAL = enum.auto()  # a pipe, socket or device: opening it may block or never end
    BROKEN = enum.auto()  # drive failure


@dataclass(frozen=True)
class Look:
    """What is at a path, and the end of an error line: why it cannot be read or written, and the remedy.

    The text is "" for FILE, FOLDER and MISSING.
    """

    thing: Thing
    fault: str = ""


def look(path: Path | str) -> Look:
    """What is at `path`, following links."""
    path = Path(path)
    if os.name == "nt" and (device := next(filter(is_device, path.parts), None)):
        return Look(Thing.SPECIAL, f"{device} is a device on Windows, with any extension; choose another name")
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except ValueError:  # contains NUL or a character outside the system's encoding
        return Look(Thing.IMPOSSIBLE, "contains a character that no path can have; remove it")
    except OSError as error:
        return _refused(path, error)
    if stat.S_ISREG(mode):
        return Look(Thing.FILE)
    if stat.S_ISDIR(mode):
        return Look(Thing.FOLDER)
    return Look(Thing.SPECIAL, f"is {special_kind(mode)}, not a file; use an ordinary file or folder")


def is_file(path: Path | str) -> bool:
    """Whether an ordinary file exists at `path`; False if that cannot be checked."""
    return _mode_is(path, stat.S_ISREG)


def is_folder(path: Path | str) -> bool:
    """Whether a folder exists at `path`; False if that cannot be checked."""
    return _mode_is(path, stat.S_ISDIR)


def exists(path: Path | str) -> bool:
    """Whether anything exists at `path`, even a pipe or device; False for broken links and if that cannot be checked."""
    return _mode_is(path, lambda mode: True)


def expanded(path: Path) -> Path:
    """`path` with `~` expanded; unchanged for an unknown user, so that it is reported as missing."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def real(path: Path | str) -> str:
    """The path with links resolved, for comparison; unchanged if the system cannot resolve it."""
    try:
        return os.path.normcase(os.path.realpath(path))
    except (OSError, ValueError):
        return str(path)


def standing(path: Path) -> Path | None:
    """`path` or its nearest existing parent, of any kind; None if not even the drive exists."""
    return next((part for part in (path, *path.absolute().parents) if exists(part)), None)


def shown(path: Path | str) -> str:
    """A path for a message: control characters escaped, the middle of a very long path left out."""
    text = "".join(ascii(sign)[1:-1] if unicodedata.category(sign) == "Cs" else sign for sign in plain_line(str(path)))
    half = _LONGEST_SHOWN // 2
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:half]}…{text[-half:]}"


def special_kind(mode: int) -> str:
    """Name of a special file's kind, from its `st_mode`."""
    return next((words for test, words in _SPECIAL if test(mode)), "not an ordinary file")


def _mode_is(path: Path | str, test: Callable[[int], bool]) -> bool:
    try:
        return test(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _refused(path: Path, error: OSError) -> Look:
    number = getattr(error, "winerror", None)
    if error.errno == errno.ELOOP or number == _CANNOT_RESOLVE:
        return Look(Thing.LOOP, "its links form a circle; remove the link, and use the path of its target")
    if long := next((part for part in path.parts if _length(part) > LONGEST_PART), None):
        return Look(
            Thing.TOO_LONG,
            f"the name '{shown(long[:30])}…' has {_length(long)} bytes, and a name may have {LONGEST_PART}; shorten it",
        )
    if error.errno == errno.ENAMETOOLONG or number == _TOO_LONG:
        return Look(Thing.TOO_LONG, f"the path has {_length(str(path))} bytes, more than this system takes; shorten it")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Look(Thing.DENIED, _denied(path))
    if number == _NO_SUCH_NAME:
        return Look(Thing.IMPOSSIBLE, "contains a character that no Windows path can have; remove it")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        link = next((part for part in (*reversed(path.parents), path) if os.path.islink(part) and not exists(part)), None)  # noqa: PTH114
        return Look(Thing.MISSING) if link is None else Look(Thing.DANGLING, _dangling(path, link))
    return Look(Thing.BROKEN, f"cannot be accessed ({error.strerror or error}); check the drive, and that it is connected")


def _denied(path: Path) -> str:
    """Which folder is closed, if known: the last one that can be checked."""
    closed = next((part for part in path.absolute().parents if exists(part)), None)
    where = f"the folder {shown(closed)}" if closed is not None else "a folder above it"
    return f"this user may not read {where}; have its permissions changed, or copy the files elsewhere"


def _dangling(path: Path, link: Path) -> str:
    try:
        target = f" to {shown(os.readlink(link))}"  # noqa: PTH115
    except OSError:
        target = ""
    which = "is a link" if link == path else f"{shown(link)} is a link"
    return f"{which}{target}, which does not exist; fix the link, or use the path of its target"


def _length(name: str) -> int:
    """Length in bytes on POSIX systems, in UTF-16 units on Windows."""
    if os.name == "nt":
        return len(name.encode("utf-16-le", "surrogatepass")) // 2
    return len(name.encode("utf-8", "surrogatepass"))
