"""Writes large files past the system's page cache, which would cost more time than writing and would evict the images."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, BinaryIO, cast

PART = 128 << 20  # bytes between two syncs; a smaller file is written normally


class Uncached:
    """Writes to the unbuffered `file`; every `PART` bytes it waits for the disk and lets the system drop the pages.

    An atomic write has to wait for the disk at the end anyway. Systems without this advice (Windows, macOS) write as usual. Raises the
    OSErrors of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._since = 0

    def write(self, content: bytes | memoryview) -> int:
        """Write all of `content` and return its length."""
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
        with contextlib.suppress(OSError):  # some file systems do not support the advice
            advise(self._file.fileno(), 0, 0, getattr(os, "POSIX_FADV_DONTNEED", 4))

    def flush(self) -> None:
        """Does nothing, since nothing is buffered; torch calls it."""


def torch_save(content: object, path: Path) -> None:
    """`torch.save` without the page cache. Raises OSError from the disk; torch itself only reports positions in its archive."""
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
