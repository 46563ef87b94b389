"""What the suite's logger says during a test, heard once a line whatever handlers and propagation earlier tests have left."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from library.console import log


class Heard(logging.Filter):
    """Stands in the logger itself, before any handler: `console.setup()` changes nothing of what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, and let it pass."""
        self.records.append(record)
        return True

    @property
    def lines(self) -> list[str]:
        """All that was said, information too."""
        return [record.getMessage() for record in self.records]

    @property
    def warnings(self) -> list[str]:
        """What was said as a warning."""
        return [record.getMessage() for record in self.records if record.levelno == logging.WARNING]

    @property
    def text(self) -> str:
        """All lines in one."""
        return "\n".join(self.lines)


@contextmanager
def listening() -> Iterator[Heard]:
    """Inside, hear from information on; afterwards the logger is as it was."""
    heard, level = Heard(), log.level
    log.setLevel(logging.INFO)
    log.addFilter(heard)
    try:
        yield heard
    finally:
        log.removeFilter(heard)
        log.setLevel(level)
