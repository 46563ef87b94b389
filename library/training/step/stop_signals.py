"""Ctrl-C, SIGTERM and SIGHUP: the first asks the run to end after the update under way, a second one ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from library.errors import Stopped

# SIGBREAK is Ctrl-Break, and the closing of a console, on Windows; SIGHUP is the same of a terminal, and of a connection, elsewhere
SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
GRACE = 1.0  # seconds in which repeats count as the same wish: a launcher passes on what the console has sent already


class StopRequest:
    """`with StopRequest() as stop:` takes the signals over; `stop.asked` is for the loop to look at between updates."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._when = 0.0
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def exit_signal(self, by_file: bool) -> int:
        """The signal's number, for the exit code: that of Ctrl-C where a file was the wish, SIGTERM's where another process got it."""
        return self.signal or int(signal.SIGINT if by_file else signal.SIGTERM)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            numbers = [number for name in SIGNALS if (number := getattr(signal, name, None)) is not None and not _is_ignored(number, name)]
            self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._when = number, time.monotonic()
            _say("\nstopping after this update; interrupt again to stop at once, without saving\n")
        elif time.monotonic() - self._when > GRACE and number != getattr(signal, "SIGHUP", None):  # a terminal vanishes once
            _say("\nstopped at once; earlier saves are complete, later progress is lost\n")
            raise Stopped(number)


def _is_ignored(number: int, name: str) -> bool:
    """Whether the run was started with `nohup`, and is to outlive its terminal."""
    return name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN


def _say(text: str) -> None:
    """Straight to standard error: logging and tqdm hold locks that the interrupted code may have."""
    if os.environ.get("RANK", "0") == "0":
        try:
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
        except (OSError, ValueError):  # no console
            return
