"""The comparison's own arithmetic: turns are counted right, the floor is the literature's figure, rows land in the table."""

from __future__ import annotations

import pytest

from benchmarks import train_step
from benchmarks.rounds import Job, unet_tflop

JOB = Job("lora", 512, 2, "bf16", 4, True, False, "cpu", steps=3, warmup=2, model="none")


def test_a_contestant_does_its_warm_up_and_its_rounds_and_no_more():
    contestant = train_step.Contestant("tests.benchmarks.counting_contestant", JOB)
    assert contestant.facts == {"trained": 4}
    assert contestant.round().seconds > 0 and contestant.round().cpu_seconds > 0
    assert contestant.finish() == 2 + 2 * 3


@pytest.mark.parametrize("together", [True, False])
def test_both_sides_take_part_and_are_measured(monkeypatch, together):
    monkeypatch.setattr(train_step, "OURS", "tests.benchmarks.counting_contestant")
    monkeypatch.setattr(train_step, "PEER", "tests.benchmarks.slow_contestant")
    outcome = train_step.compare(JOB, 2, together)
    assert outcome.ours_gib == outcome.peer_gib == 2 + 2 * 3 and outcome.trained == 4
    assert outcome.ratio > 3 and outcome.ours > 3 * outcome.peer  # the other side sleeps


def test_a_side_that_fails_ends_the_comparison(monkeypatch):
    monkeypatch.setattr(train_step, "OURS", "tests.benchmarks.counting_contestant")
    monkeypatch.setattr(train_step, "PEER", "tests.benchmarks.no_such_contestant")
    with pytest.raises(RuntimeError, match="no_such_contestant ended early"):
        train_step.compare(JOB, 2)


@pytest.mark.slow
def test_unet_needs_0_803_tflop_for_an_image_of_512_pixels():
    assert unet_tflop(512) == pytest.approx(0.803, abs=0.001)


def test_share_of_floor_is_arithmetic_over_rate():
    facts = {"matmul_tflops": 400.0, "unet_tflop": 0.803}
    assert train_step._share(JOB, facts, 100.0) == pytest.approx(1.606 * 100 / 400)
    assert train_step._share(JOB, {}, 100.0) is None


def test_a_row_is_appended_to_the_table(monkeypatch, tmp_path):
    page = tmp_path / "RESULTS.md"
    page.write_text("# Title\n\n| a |\n|---|\n", encoding="utf-8")
    monkeypatch.setattr(train_step, "RESULTS", page)
    outcome = train_step.Outcome(1.234, 1.0, 1.23, 0.5, 0.75, 4.0, 5.0, 0.41, 2_400_000)
    train_step._record(train_step._row(JOB, outcome, "quiet"))
    last = page.read_text(encoding="utf-8").splitlines()[-1]
    assert last.count(" | ") == len(train_step.COLUMNS) - 1 and "| 1.23 | 1 | 1.23 | 0.5 | 0.75 | 4.00 | 5.00 | 41% |" in last


def test_page_has_the_columns_that_are_written():
    section = train_step.RESULTS.read_text(encoding="utf-8").partition("# Training speed beside")[2]
    header = next(line for line in section.splitlines() if line.startswith("| date"))
    assert tuple(cell.strip() for cell in header.strip("|").split("|")) == train_step.COLUMNS
