"""Figures of updates, read one update after they are computed, so that the device never waits for the reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from library.training.step.course import Course
from library.training.step.guard import Guard
from library.training.step.loop_events import Events, UpdateReport
from library.training.step.pending import Pending
from library.training.step.stopwatch import Stopwatch


class Bar(Protocol):
    """A progress bar of tqdm."""

    n: int

    def update(self, n: int) -> object:
        """Advance the bar by `n`."""

    def set_postfix(self, *, refresh: bool, **shown: str) -> None:
        """Set the text after the bar."""


class LateReports:
    """Delays the figures of each update: `put` an update, and `read` it when the next one is on the device.

    `read` comes earlier before anything that requires a finite loss. `clock` splits the time of an update into "data", "step" and
    "other".
    """

    def __init__(self, course: Course, guard: Guard, events: Events, bar: Bar) -> None:
        self.clock = Stopwatch("data", "step", "other")
        self._course, self._guard, self._events, self._bar = course, guard, events, bar
        self._waiting: Pending | None = None

    def put(self, pending: Pending, refused: bool) -> None:
        """Take the latest update; one that was refused is not reported."""
        if refused:
            self._bar.update(1)
        pending.extra = {**pending.extra, **self._seconds()}
        self._waiting = None if refused else pending

    def read(self) -> None:
        """Report the waiting update, if any, and take over the requests that its figures carry."""
        pending, self._waiting = self._waiting, None
        if pending is None:
            return
        figures = pending.read()
        self.clock.mark("step")
        self._guard.check(pending)
        average = self._course.average(figures.loss)
        self._bar.update(1)
        self._bar.set_postfix(loss=f"{figures.loss:.4f}", avr_loss=f"{average:.4f}", refresh=False)
        extra = {**pending.extra, **figures.by_target}
        report = UpdateReport(pending.step, pending.epoch, figures.loss, average, figures.gradient, extra, pending.showings)
        self._events.on_update(report)
        self.clock.mark("other")
        self._course.requests.hear(figures)

    def start_over(self) -> None:
        """Discard the waiting update, because the run went back."""
        self._waiting = None
        self._bar.n = self._course.state.step

    def _seconds(self) -> Mapping[str, float]:
        return self.clock.take("seconds/")
