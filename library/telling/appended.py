"""A file that grows by whole records: a record that cannot be written is retried later, and an incomplete one is removed."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from library.paths.look import exists

MOST_WAITING = 10_000  # records


class AppendedFile:
    """A file that is created with its first record, and created again if it was removed. Never raises OSError.

    `failed` counts the records that are not in the file. `on_fault(line)` is called the first time it cannot be written, and each time it
    was removed. `before_opening()`, which may raise OSError, is called once, before the file is first opened.
    """

    def __init__(self, path: Path, on_fault: Callable[[str], None], before_opening: Callable[[], None] | None = None) -> None:
        self.path = Path(path)
        self._on_fault, self._before_opening = on_fault, before_opening
        self._file: IO[bytes] | None = None
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._reported = self._was_opened = self._counts_names = False

    @property
    def failed(self) -> int:
        """The number of records not written so far."""
        return self._dropped + len(self._waiting)

    def add(self, record: bytes) -> bool:
        """Write waiting records, then `record`; returns whether all of them are in the file."""
        self._waiting.append(record)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        return self.write_waiting()

    def write_waiting(self) -> bool:
        """Retry the waiting records."""
        try:
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
        except (OSError, ValueError) as error:
            self._let_go()
            if not self._reported:
                self._reported = True
                self._on_fault(f"{self.path} cannot be written ({getattr(error, 'strerror', None) or error})")
            return False
        return True

    def close(self) -> None:
        """Retry the waiting records for the last time, and close the file."""
        self.write_waiting()
        self._let_go()

    def _write(self, record: bytes) -> None:
        file = self._opened()
        before, written = os.fstat(file.fileno()).st_size, 0
        try:
            while written < len(record):
                written += file.write(record[written:])
        except OSError:
            with contextlib.suppress(OSError):  # unless another run has added to the file in the meantime
                if written and os.fstat(file.fileno()).st_size == before + written:
                    file.truncate(before)
            raise

    def _opened(self) -> IO[bytes]:
        if self._file is not None and self._is_removed(self._file):
            self._let_go()
            self._on_fault(f"{self.path} was removed during the run; new lines go to a new file")
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._before_opening is not None and not self._was_opened:
                self._before_opening()
            self._file = self.path.open("ab", buffering=0)
            self._was_opened = True
            self._counts_names = os.fstat(self._file.fileno()).st_nlink > 0  # some network drives do not
        return self._file

    def _is_removed(self, file: IO[bytes]) -> bool:
        return not exists(self.path) or (self._counts_names and os.fstat(file.fileno()).st_nlink == 0)

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
