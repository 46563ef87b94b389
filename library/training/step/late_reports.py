"""Figures of updates, read one update later than they were computed, so that the device never waits for whoever reads them."""

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
        """So many more are done."""

    def set_postfix(self, *, refresh: bool, **shown: str) -> None:
        """What stands behind the bar."""


class LateReports:
    """`put` an update, and `read` it when the next one is on the device, or earlier where something may only happen after its loss is known
    to be finite. `clock` shares out the time of an update: "data", "step", "other"."""

    def __init__(self, course: Course, guard: Guard, events: Events, bar: Bar) -> None:
        self.clock = Stopwatch("data", "step", "other")
        self._course, self._guard, self._events, self._bar = course, guard, events, bar
        self._waiting: Pending | None = None

    def put(self, pending: Pending, refused: bool) -> None:
        """Take the update that was just made; of a refused one there is nothing to tell."""
        if refused:
            self._bar.update(1)
        pending.extra = {**pending.extra, **self._seconds()}
        self._waiting = None if refused else pending

    def read(self) -> None:
        """Tell of the update that waits, if one does, and hear what was asked for when it was made."""
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
        """The run went back: what waits is no part of it any more."""
        self._waiting = None
        self._bar.n = self._course.state.step

    def _seconds(self) -> Mapping[str, float]:
        return self.clock.take("seconds/")
