"""Measures where the time of an update goes: the time between two marks belongs to the kind of work that the second one names."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stopwatch:
    """Seconds by kind of work, from creation on; `kinds` lists all kinds."""

    def __init__(self, *kinds: str, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._last = now, now()
        self._spent = dict.fromkeys(kinds, 0.0)

    def mark(self, kind: str) -> None:
        """Count the time since the last mark as `kind`."""
        moment = self._now()
        self._spent[kind] += moment - self._last
        self._last = moment

    def take(self, prefix: str = "") -> dict[str, float]:
        """Return the seconds since the last `take`, by `prefix` + kind."""
        taken = {prefix + kind: seconds for kind, seconds in self._spent.items()}
        self._spent = dict.fromkeys(self._spent, 0.0)
        return taken
