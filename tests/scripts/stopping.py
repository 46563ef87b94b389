"""Runs that are stopped on the way and resumed, and what they tell of their losses: for the tests of exact resumption."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from library.training.events import RunEvents
from library.training.step.update import Gradients
from tests.scripts.starting import start

Main = Callable[[Sequence[str]], None]


@contextmanager
def before_update(number: int, act: Callable[[], None]) -> Iterator[None]:
    """Inside, `act()` is called as update `number` (from 1) of a run begins to be computed."""
    real = Gradients.accumulate

    def accumulate(self, group):
        if self._state.step == number - 1:
            act()
        return real(self, group)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gradients, "accumulate", accumulate)
        yield


def stop_after(updates: int, main: Main, **options: object) -> int:
    """The exit code of a run that gets Ctrl-C while its update number `updates` is under way."""
    with before_update(updates, lambda: signal.raise_signal(signal.SIGINT)):
        return start(main, **options)


@contextmanager
def losses() -> Iterator[dict[int, tuple[float, float]]]:
    """Inside, every update that is told of: {update: (loss, running average)}."""
    found: dict[int, tuple[float, float]] = {}
    real = RunEvents.on_update

    def on_update(self, report):
        found[report.step] = (report.loss, report.average)
        return real(self, report)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunEvents, "on_update", on_update)
        yield found
