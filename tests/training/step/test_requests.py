"""When a request is obeyed: at once by a process that is alone, and by several after the same update."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from library.training.step.pending import Figures
from library.training.step.request_files import RequestFiles
from library.training.step.requests import Requests
from library.training.step.stop_signals import StopRequest


def requests(folder: Path, processes: int) -> Requests:
    return Requests(StopRequest(), RequestFiles(folder), processes)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_stop_is_obeyed_at_once_only_by_a_process_that_is_alone(tmp_path: Path, processes: int) -> None:
    asked = requests(tmp_path, processes)
    (tmp_path / "stop").touch()
    assert asked.seen() == (True, False)
    assert asked.must_stop() == (processes == 1)
    asked.hear(Figures(1.0, 1.0, stop=True, save=False))
    assert asked.must_stop()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_save_is_obeyed_at_once_only_by_a_process_that_is_alone(tmp_path: Path, processes: int) -> None:
    asked = requests(tmp_path, processes)
    (tmp_path / "save.txt").touch()
    assert asked.seen() == (False, True) and asked.saving == (processes == 1)
    asked.hear(Figures(1.0, 1.0, stop=False, save=True))
    assert asked.saving and not asked.must_stop()


def test_a_signal_that_only_another_process_got_stops_this_one_too(tmp_path: Path) -> None:
    asked = requests(tmp_path, 2)
    assert asked.seen() == (False, False)
    asked.hear(Figures(1.0, 1.0, stop=True, save=False))
    assert asked.must_stop() and asked.signals.exit_signal(asked.stop_file_is_there()) == signal.SIGTERM


def test_samples_look_for_a_file_stop_between_two_images(tmp_path: Path) -> None:
    asked = requests(tmp_path, 2)
    assert not asked.stop_is_wanted_now()
    (tmp_path / "stop").touch()
    assert asked.stop_is_wanted_now() and not asked.must_stop()
    asked.forget()
    assert not asked.stop_is_wanted_now() and list(tmp_path.iterdir()) == []
