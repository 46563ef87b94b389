"""One process and several take turns, and what a round of several gives counts the images of all."""

from __future__ import annotations

import pytest

from benchmarks import processes
from benchmarks.rounds import Job

JOB = Job("lora", 64, 2, "no", 4, False, False, "cpu", steps=3, warmup=1, model="none")


def test_the_images_of_all_processes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "OURS", "tests.benchmarks.slow_contestant")  # a nap of 0.05 s an update, in each process at a time
    outcome = processes.compare(JOB, 2, 2)
    assert 1.2 < outcome.ratio < 2.6 and outcome.several > outcome.one > 0


@pytest.mark.slow
def test_the_real_loop_trains_in_two_processes(capsys: pytest.CaptureFixture[str]) -> None:
    processes.main(["--resolution", "64", "--batch", "1", "--steps", "1", "--rounds", "1"])
    assert "2 processes:" in capsys.readouterr().out
