"""Images that cannot be read during a run: each is reported once by name, and all are counted at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from accelerate.utils import gather_object

from library.console import is_main_process, log
from library.data.loading.batch import Batch
from library.words import counted


class UnreadableImages:
    """Records images that the dataset could not read and replaced by other images."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._lines: dict[str, None] = {}
        self._note(known)

    def noted(self, batch: Batch) -> Batch:
        """Record the batch's unreadable images; returns the batch unchanged."""
        self._note(batch.unreadable)
        return batch

    def _note(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line not in self._lines:
                self._lines[line] = None
                # other processes log errors only, and only this one knows of the image
                level = logging.WARNING if is_main_process() else logging.ERROR
                log.log(level, "%s; another image of its size replaces it", line)

    def tell(self, processes: int) -> None:
        """Log the summary; all processes must call it together."""
        lines = set(gather_object(list(self._lines)) if processes > 1 else self._lines)
        if lines:
            log.warning("%s could not be read, so others of the same size were used instead, see above", counted(len(lines), "file"))
