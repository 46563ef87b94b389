"""`events.jsonl` in the output folder: what happens in a run, one JSON object per line, for users' own scripts."""

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
    """Appends lines for `run` (its output name); for the main process only. `failed` counts the lines that could not be written.

    Every line is handed to the operating system before `write` returns, so a killed run loses at most the line in progress. A run that
    resumes from a state removes the later lines of its `session`, because it repeats those updates. Saves and samples at the update of the
    state are logged once, by either of the two runs.
    """

    def __init__(self, folder: Path, run: str, session: str, step: int = 0, epoch: int = 0) -> None:
        self.path = Path(folder) / NAME
        self._run, self._session, self._step = run, session, step
        self._closed = False
        # opened with the first line: a run that fails before it leaves no file
        self._file = AppendedFile(
            self.path, lambda line: log.warning(f"{line}; training continues"), lambda: _mend(self.path, session, step, epoch)
        )

    @property
    def failed(self) -> int:
        """Lines that are not in the file."""
        return self._file.failed

    def write(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one line: what happened, when, after how many updates, and `values` (non-finite numbers become null)."""
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
        """Close the file; nothing is buffered."""
        if not self._closed:
            self._closed = True
            self._file.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of an event log as objects, without lines that an interrupted run left incomplete."""
    return [event for line in read_bytes(Path(path)).splitlines() if (event := _object(line)) is not None]


def _mend(path: Path, session: str, step: int, epoch: int) -> None:
    """Remove an incomplete line at the end, and the session's lines that are later than `step` updates or `epoch` epochs."""
    if not exists(path):
        return
    lines = read_bytes(path).splitlines(keepends=True)
    remaining = [line for line in lines if line.endswith(b"\n") and not _undone(line, session, step, epoch)]
    if len(remaining) < len(lines):
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"".join(remaining))


def _undone(line: bytes, session: str, step: int, epoch: int) -> bool:
    event = _object(line) or {}
    at, of = event.get("step"), event.get("epoch")
    if event.get("session") != session or not isinstance(at, int):
        return False
    return at > step or (event.get("event") == "epoch" and isinstance(of, int) and of > epoch)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = parse_json(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plain(value: object) -> object:
    if isinstance(value, bool) or value is None or isinstance(value, int | str | list):
        return value
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return str(value)
