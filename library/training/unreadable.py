"""Images that broke during a run: each is told once by its name, and all are counted at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from accelerate.utils import gather_object

from library.console import is_main_process, log
from library.data.loading.batch import Batch
from library.words import counted


class UnreadableImages:
    """Takes note of what the dataset could not read, and in whose place it has shown another image."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._lines: dict[str, None] = {}
        self._note(known)

    def noted(self, batch: Batch) -> Batch:
        """The batch as it is."""
        self._note(batch.unreadable)
        return batch

    def _note(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._lines:
                self._lines[line] = None
                # the other processes speak from errors on, and only the one that met the image knows of it
                level = logging.WARNING if is_main_process() else logging.ERROR
                log.log(level, "%s; another image of its size replaces it", line)

    def tell(self, processes: int) -> None:
        """The summary; all processes call it together."""
        lines = set(gather_object(list(self._lines)) if processes > 1 else self._lines)
        if lines:
            log.warning("%s could not be read, so others of the same size were used instead, see above", counted(len(lines), "file"))
