"""The first signal is a wish, one that comes with it is the same wish, and a later one ends at once."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from library.errors import Stopped
from library.training.step import stop_signals
from library.training.step.stop_signals import GRACE, StopRequest
from tests.messages import message


def test_a_second_signal_ends_at_once_but_not_one_that_a_launcher_passes_on(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(stop_signals, "time", SimpleNamespace(monotonic=lambda: clock.now))
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as request:
        assert not request.asked
        signal.raise_signal(signal.SIGINT)
        assert request.asked
        clock.now += GRACE
        signal.raise_signal(signal.SIGINT)
        clock.now += 0.1
        with pytest.raises(Stopped) as ended:
            signal.raise_signal(signal.SIGTERM)
    assert ended.value.exit_code == 128 + signal.SIGTERM
    assert request.exit_signal(by_file=False) == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    told = capfd.readouterr().err
    message(told, "stopping after this update", "wait", "stopped after update", "KeyboardInterrupt", "without saving")
    assert told.count("stopping after this update") == 1 and told.count("stopped at once") == 1


def test_the_exit_code_says_what_ended_the_run() -> None:
    request = StopRequest()
    assert (request.exit_signal(by_file=True), request.exit_signal(by_file=False)) == (signal.SIGINT, signal.SIGTERM)
