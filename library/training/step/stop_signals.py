"""Ctrl-C, SIGTERM and SIGHUP: the first ends the run after the current update, a second one ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from library.errors import Stopped

# SIGBREAK is Ctrl-Break, or a closed console, on Windows; SIGHUP is a closed terminal or connection elsewhere
SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
STOPPING = (
    "stopping after this update, then saving: wait for the line 'stopped after update …' (a launcher's traceback that ends in "
    "KeyboardInterrupt is harmless); interrupt again only to stop at once, without saving"
)
GRACE = 1.0  # seconds in which repeats count as one signal: a launcher forwards what the console has already sent


class StopRequest:
    """`with StopRequest() as stop:` handles the signals; the loop reads `stop.asked` between updates."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._when = 0.0
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Return whether a signal has arrived."""
        return self.signal is not None

    def exit_signal(self, by_file: bool) -> int:
        """Return the signal number for the exit code: that of Ctrl-C for a request by file, SIGTERM's if another process got the signal."""
        return self.signal or int(signal.SIGINT if by_file else signal.SIGTERM)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python allows it in no other thread
            numbers = [number for name in SIGNALS if (number := getattr(signal, name, None)) is not None and not _is_ignored(number, name)]
            self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._when = number, time.monotonic()
            _say(f"\n{STOPPING}\n")
        elif time.monotonic() - self._when > GRACE and number != getattr(signal, "SIGHUP", None):  # a closed terminal is no second request
            _say("\nstopped at once; earlier saves are complete, later progress is lost\n")
            raise Stopped(number)


def _is_ignored(number: int, name: str) -> bool:
    """Return whether the run was started with `nohup` and must outlive its terminal."""
    return name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN


def _say(text: str) -> None:
    """Write directly to standard error: the interrupted code may have locked logging or tqdm."""
    if os.environ.get("RANK", "0") == "0":
        try:
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
        except (OSError, ValueError):  # no console
            return
