"""`events.jsonl` in the output folder: what happens in a run, one JSON object a line, for people's own scripts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from library.console import log
from library.files import NOT_UNICODE, atomic_write
from library.parsing.json_text import parse_json
from library.paths.look import exists
from library.paths.opening import read_bytes
from library.telling.appended import AppendedFile

NAME = "events.jsonl"
_ONCE = ("saved", "saved_state", "samples")


class EventLog:
    """Appends lines for `run` (its output name); for the main process only. `failed` counts what could not be written.

    Every line is on its way to the disk when `write` returns, so a killed run leaves all but the line it was writing. Where a
    run goes on from a state, lines of its `session` that are later than that state go: what they told is done again. What was saved
    and drawn at that very update is told once, whether the run before had come to tell it or the one that goes on does.
    """

    def __init__(self, folder: Path, run: str, session: str, step: int = 0, epoch: int = 0) -> None:
        self.path = Path(folder) / NAME
        self._run, self._session, self._step = run, session, step
        self._closed = False
        # with the first line: a run that fails before leaves nothing behind
        self._file = AppendedFile(
            self.path, lambda line: log.warning(f"{line}; training continues"), lambda: _mend(self.path, session, step, epoch)
        )

    @property
    def failed(self) -> int:
        """Lines that are not in the file."""
        return self._file.failed

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line: what happened, when, after how many updates, and `values` (a number that is not finite becomes null)."""
        if self._closed or (event in _ONCE and step and step == self._step and self._tells(event, step, values)):
            return
        line = {"event": event, "run": self._run, "session": self._session, "time": round(time.time(), 3), "step": step}
        text = json.dumps(line | {key: _plain(value) for key, value in values.items()}, ensure_ascii=False)
        self._file.add(text.encode("utf-8", NOT_UNICODE) + b"\n")

    def _tells(self, event: str, step: int, values: Mapping[str, Any]) -> bool:
        try:
            lines = read_events(self.path)
        except OSError:
            return False
        wanted = {"event": event, "session": self._session, "step": step, **{key: _plain(value) for key, value in values.items()}}
        return any(all(line.get(key) == value for key, value in wanted.items()) for line in lines)

    def close(self) -> None:
        """Nothing is waiting; give the file back."""
        if not self._closed:
            self._closed = True
            self._file.close()


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
    at, of = found.get("step"), found.get("epoch")
    if found.get("session") != session or not isinstance(at, int):
        return False
    return at > step or (found.get("event") == "epoch" and isinstance(of, int) and of > epoch)


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
