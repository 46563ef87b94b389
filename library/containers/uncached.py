"""Large files written past the system's cache of pages, which costs more time than the writing and drives the images out of memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, BinaryIO, cast

PART = 128 << 20  # bytes between two visits to the disk; a smaller file is written as any other


class Uncached:
    """Writes to `file`, opened unbuffered; every `PART` bytes it waits for the disk and lets the system forget the pages.

    Whoever writes a file whole has to wait for the disk in the end anyway. Systems that take no such advice (Windows, macOS) write as
    always. Raises OSError as the file does.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._since = 0

    def write(self, content: bytes | memoryview) -> int:
        """Write all of `content`; its length."""
        rest = memoryview(content)
        length = len(rest)
        while rest:
            written = self._file.write(rest[: PART - self._since])
            rest = rest[written:]
            self._since += written
            if self._since >= PART:
                self._forget()
        return length

    def _forget(self) -> None:
        self._since = 0
        sync, advise = getattr(os, "fdatasync", None), getattr(os, "posix_fadvise", None)
        if sync is None or advise is None:
            return
        sync(self._file.fileno())
        with contextlib.suppress(OSError):  # some file systems take no advice
            advise(self._file.fileno(), 0, 0, getattr(os, "POSIX_FADV_DONTNEED", 4))

    def flush(self) -> None:
        """Nothing is held back; torch asks."""


def torch_save(content: object, path: Path) -> None:
    """`torch.save`, past the cache. Raises OSError where the disk refuses; torch itself tells positions in its archive."""
    import torch

    try:
        with path.open("wb", buffering=0) as file:
            torch.save(content, cast("IO[bytes]", Uncached(file)))
    except RuntimeError as fault:
        cause: BaseException | None = fault
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise cause from None
