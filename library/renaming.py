"""Rename and remove files on systems where another program, or the drive itself, may block it for a while.

On Windows a file that a virus scanner, the search index or an image program has open can be neither renamed nor replaced. Network and
notebook drives may refuse a rename onto an existing file, or may not support flushing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from library.paths.look import is_file, is_folder
from library.paths.opening import refuse_special
from library.paths.writers import new_mark

DELAYS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds before each retry
_PASSING = frozenset({errno.EACCES, errno.EBUSY, errno.EIO, errno.EAGAIN, errno.EINTR, errno.ETXTBSY})
_NO_RENAME_ONTO = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
_LONGEST_NAME = 255  # bytes
_KEPT_END = 16  # characters: endings such as `.512x768.npz` and `-000010.safetensors` distinguish files
_NO_FLUSHING = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


def patiently(act: Callable[[], object]) -> None:
    """Call `act()`, again after each of DELAYS if its error may be temporary; raises the last OSError."""
    for delay in (*DELAYS, None):
        try:
            act()
            return
        except OSError as error:
            if delay is None or error.errno not in _PASSING:
                raise
        time.sleep(delay)


def name_beside(path: Path, kind: str, ending: str = "") -> Path:
    """Return a new hidden path next to `path` for its replacement or its old file: `.<name>.<mark>.<kind><ending>`. The mark identifies the
    process.

    The middle of the name is left out if the whole would be too long for the file system.
    """
    tail = f".{new_mark()}.{kind}{ending}"
    room = longest_name(path.parent) - len(tail) - 1
    return path.with_name(f".{_shortened(path.name, room)}{tail}")


def longest_name(folder: Path) -> int:
    """Return how many bytes a file name may have in `folder`, or in its nearest parent that exists."""
    standing = next((part for part in (folder, *folder.absolute().parents) if is_folder(part)), None)
    try:
        return min(os.pathconf(standing, "PC_NAME_MAX"), _LONGEST_NAME) if standing else _LONGEST_NAME
    except (AttributeError, OSError, ValueError):  # Windows counts 255 characters of at least one byte each
        return _LONGEST_NAME


def fits(path: Path) -> bool:
    """Whether the file system allows a file name of this length."""
    return _length(path.name) <= longest_name(path.parent)


def too_long(path: Path) -> str:
    """Say what is wrong with a file name that is too long, and the remedy, for the end of a line."""
    most = longest_name(path.parent)
    return f"its name would have {_length(path.name)} bytes and this file system allows {most}; rename the image to a shorter name"


def is_too_long(error: BaseException) -> bool:
    """Whether a file could not be written because its name is too long, by the error numbers of Linux, macOS and Windows."""
    return isinstance(error, OSError) and (error.errno == errno.ENAMETOOLONG or getattr(error, "winerror", None) == 206)


def is_there(path: Path) -> bool:
    """Whether `path` is a file; False if the name is too long or the path cannot be read."""
    return is_file(path)


def _length(name: str) -> int:
    """Bytes on POSIX systems, UTF-16 units on Windows."""
    return len(name.encode("utf-16-le", "surrogatepass")) // 2 if os.name == "nt" else len(os.fsencode(name))


def _shortened(name: str, room: int) -> str:
    """Shorten `name` to at most `room` bytes: keep its end, which shows the kind of file, and as much of its start as fits."""
    if len(name.encode("utf-8", "surrogatepass")) <= room:
        return name
    end = name[-_KEPT_END:]
    head = name[:-_KEPT_END]
    while head and len((head + "~" + end).encode("utf-8", "surrogatepass")) > room:
        head = head[:-1]
    return f"{head}~{end}"


def put_in_place(source: Path, target: Path) -> None:
    """Rename the file `source` to `target` and replace an existing file; on OSError, `target` is unchanged.

    If a rename cannot replace the existing file, that file is moved aside first. If it cannot be removed either (on Windows, a program has
    it mapped into memory), it stays under a hidden name, for `library.files.tidy`.
    """
    patiently(lambda: _replace(source, target))


def is_in_use(error: BaseException) -> bool:
    """Whether `error` may mean that another program has the file open, by the error numbers of Windows and network drives."""
    by_number = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EBUSY, errno.ETXTBSY)
    return by_number or getattr(error, "winerror", None) == 1224  # mapped into memory; has the number of EINVAL


def remove(path: Path) -> None:
    """Remove a file or folder; on OSError a folder is unchanged, not partly removed.

    Windows cannot rename a folder in which another program has a file open, so the folder is renamed before anything in it is removed.
    """
    if not is_folder(path) or path.is_symlink():
        patiently(path.unlink)
        return
    going = name_beside(path, "tmp")
    patiently(lambda: path.rename(going))
    shutil.rmtree(going, ignore_errors=True)


def flush_file(path: Path) -> None:
    """Flush the file to disk, if the drive supports it."""
    with path.open("rb+") as written:
        try:
            os.fsync(written.fileno())
        except OSError as error:
            if error.errno not in _NO_FLUSHING:
                raise


def flush_folder(folder: Path) -> None:
    """Flush the names in `folder` to disk, if the system supports it (Windows does it automatically)."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some network file systems refuse
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replace(source: Path, target: Path) -> None:
    refuse_special(target)
    try:
        source.replace(target)
        return
    except OSError as error:
        if error.errno not in _PASSING | _NO_RENAME_ONTO or not is_file(target):
            raise
        refused = error
    aside = name_beside(target, "old")
    try:
        target.rename(aside)
    except OSError:
        raise refused from None
    try:
        patiently(lambda: source.rename(target))
    except OSError:
        patiently(lambda: aside.rename(target))
        raise
    with contextlib.suppress(OSError):
        aside.unlink()
