"""The plan for a GPU keeps to its time, and one part that fails leaves the others alone. What it measures runs on a CPU too."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gpu, sd_scripts
from benchmarks.rounds import Job

JOB = Job("lora", 128, 2, "no", 4, False, False, "cpu", steps=2, warmup=1, model="small.safetensors")


def test_no_part_begins_when_the_time_is_over(tmp_path, capsys):
    assert gpu.run(gpu.Plan(JOB, tmp_path, time.monotonic() - 1), tmp_path) == 0
    assert capsys.readouterr().out.count("No time was left.") == 9
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8").count("## ") == 9


def test_a_part_that_fails_leaves_the_others_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu.Plan, "beside", lambda self, job: "| table |")
    monkeypatch.setattr(gpu.Plan, "kernels", lambda self, job: "| table |")
    monkeypatch.setattr(gpu.Plan, "rates", lambda self: 1 / 0)
    monkeypatch.setattr(gpu.Plan, "options", lambda self, job, variants: "| table |")
    assert gpu.run(gpu.Plan(JOB, tmp_path, time.monotonic() + 60), None) == 1
    told = capsys.readouterr().out
    assert told.count("| table |") == 8 and "ZeroDivisionError" in told


def test_options_that_fail_are_told_in_their_row(tmp_path, monkeypatch):
    def run(side: sd_scripts.Side, job: Job, place: Path, config: Path, more: tuple[str, ...]) -> sd_scripts.Run:
        if more:
            raise RuntimeError("train_network.py ended with exit code 2: error: no\nerror: --x: not here")
        return sd_scripts.Run(0.5, 4.0, 1.0, (0.5, 0.25, 0.25), 1.5, (0.1,), None)

    monkeypatch.setattr(sd_scripts.Side, "run", run)
    table = gpu.Plan(JOB, tmp_path, time.monotonic() + 60).options(JOB, ((), ("--x",)))
    assert "| none | 8.00 | 4.0 | 1.50 |" in table and "| --x | failed: error: --x: not here | | |" in table


@pytest.mark.slow
def test_a_profile_counts_what_an_update_takes(tmp_path):
    from benchmarks.make_model import write

    write(tmp_path / "small.safetensors", "v1", "small")
    told = gpu.Plan(JOB, tmp_path, time.monotonic() + 60).kernels(replace(JOB, model=str(tmp_path / "small.safetensors")))
    assert "| all | " in told and "aten::" in told
