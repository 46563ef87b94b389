"""`events.jsonl` in the output folder: what happens in a run, one JSON object a line, for people's own scripts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from library.console import log
from library.files import NOT_UNICODE, atomic_write
from library.parsing.json_text import parse_json
from library.paths.look import exists
from library.paths.opening import read_bytes

NAME = "events.jsonl"


class EventLog:
    """Appends lines for `run` (its output name); for the main process only. `failed` counts what could not be written.

    Every line is on its way to the disk when `write` returns, so a killed run leaves all but the line it was writing. Where a
    run goes on from a state, lines of its `session` that are later than that state go: what they told is done again.
    """

    def __init__(self, folder: Path, run: str, session: str, step: int = 0, epoch: int = 0) -> None:
        self.path = Path(folder) / NAME
        self.failed = 0
        self._run, self._session = run, session
        self._from = (step, epoch)
        self._file: TextIO | None = None
        self._closed = False

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line: what happened, when, after how many updates, and `values` (a number that is not finite becomes null)."""
        if self._closed:
            return
        line = {"event": event, "run": self._run, "session": self._session, "time": round(time.time(), 3), "step": step}
        text = json.dumps(line | {key: _plain(value) for key, value in values.items()}, ensure_ascii=False)
        try:
            if self._file is None:  # with the first line: a run that fails before leaves nothing behind
                self._file = self._open()
            self._file.write(text + "\n")
        except OSError as error:
            self._fail(error)

    def _open(self) -> TextIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _mend(self.path, self._session, *self._from)
        return self.path.open("a", encoding="utf-8", errors=NOT_UNICODE, newline="\n", buffering=1)

    def close(self) -> None:
        """Nothing is waiting; give the file back."""
        self._closed = True
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._fail(error)

    def _fail(self, reason: OSError) -> None:
        self.failed += 1
        if self.failed == 1:
            log.warning(f"{self.path} cannot be written ({reason.strerror or reason}); training goes on, with gaps in that file")


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of an event log as objects; one that was cut short by a kill is left out."""
    return [found for line in read_bytes(Path(path)).splitlines() if (found := _object(line)) is not None]


def _mend(path: Path, session: str, step: int, epoch: int) -> None:
    """Take away a half line at the end and the session's lines that are later than `step` updates or `epoch` epochs."""
    if not exists(path):
        return
    lines = read_bytes(path).splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and not _undone(line, session, step, epoch)]
    if len(kept) < len(lines):
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"".join(kept))


def _undone(line: bytes, session: str, step: int, epoch: int) -> bool:
    found = _object(line) or {}
    if found.get("session") != session:
        return False
    return found.get("step", 0) > step or (found.get("event") == "epoch" and found.get("epoch", 0) > epoch)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _plain(value: object) -> object:
    if isinstance(value, bool) or value is None or isinstance(value, int | str | list):
        return value
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return str(value)
