"""Opens ordinary files for reading, nothing else: reading a pipe may block forever, `/dev/zero` never ends."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, TextIO

from library.paths.look import special_kind
from library.words import in_words

MOST_TEXT = 1 << 32  # bytes: the metadata of ten million images
_LONG = 1 << 26  # bytes from which on the beginning of a text is looked at before the rest is read
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # opens a pipe without waiting for its writer; no effect on ordinary files


def open_file(path: Path | str) -> BinaryIO:
    """Open the file to read bytes. Raises OSError, also for anything but an ordinary file."""
    return open(regular(path), "rb", opener=_open)


def open_text(path: Path | str, encoding: str = "utf-8-sig", newline: str | None = None) -> TextIO:
    """Open the file to read text. Raises OSError, also for anything but an ordinary file and for a huge file that is no text."""
    return open(regular(path), encoding=encoding, newline=newline, opener=_open_text)


def read_bytes(path: Path | str, most: int | None = None) -> bytes:
    """All bytes of an ordinary file. Raises OSError, also if there are more than `most`."""
    with open_file(path) as file:
        if most is not None:
            _at_most(os.fstat(file.fileno()).st_size, most, path)
        return file.read()


def read_text(path: Path | str, encoding: str = "utf-8-sig") -> str:
    """All text of an ordinary file without BOM. Raises OSError, and UnicodeDecodeError for another encoding."""
    with open_text(path, encoding) as file:
        return file.read()


def regular(path: Path | str) -> Path:
    """`path` unchanged if it is an ordinary file, for libraries that open it themselves. Raises OSError otherwise."""
    path = path if isinstance(path, Path) else Path(path)  # creating a Path takes as long as everything else here
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except ValueError:
        raise OSError(errno.EINVAL, "its name contains a character that no path can have", str(path)) from None
    _only_regular(mode, path)
    return path


def refuse_special(path: Path | str) -> None:
    """Raise OSError for a pipe, socket or device: replacing it with a file would take it away from all its users."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):  # missing, or writing reports the error
        return
    if not stat.S_ISDIR(mode):
        _only_regular(mode, path)


def _open(path: str, flags: int) -> int:
    handle = os.open(path, flags | _AT_ONCE)
    try:
        _only_regular(os.fstat(handle).st_mode, path)  # the file may have been replaced since the check
    except OSError:
        os.close(handle)
        raise
    return handle


def _open_text(path: str, flags: int) -> int:
    """Refuse a file whose reading would take minutes and memory: one beyond `MOST_TEXT`, or a long one that begins like no text."""
    handle = _open(path, flags)
    try:
        size = os.fstat(handle).st_size
        _at_most(size, MOST_TEXT, path)
        if size > _LONG:
            begin = os.read(handle, 4096)
            os.lseek(handle, 0, os.SEEK_SET)
            if b"\0" in begin and not begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise OSError(errno.EINVAL, "is no text", path)
    except OSError:
        os.close(handle)
        raise
    return handle


def _at_most(size: int, most: int, path: Path | str) -> None:
    if size > most:
        raise OSError(errno.EFBIG, f"has {in_words(size)}, and at most {in_words(most)} are read", str(path))


def _only_regular(mode: int, path: Path | str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"is {special_kind(mode)}, not a file", str(path))
