"""What saving.py measures: every way leaves a file of the same size class, and rows land in their table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import data, make_model, results, saving, startup
from library.containers.weights_file import open_weights


def test_all_ways_save_the_whole_model(tmp_path: Path) -> None:
    make_model.write(tmp_path / "model.safetensors", "v1", "small")
    ways = saving.cases(tmp_path / "model.safetensors")
    counts = []
    for way, save in ways.items():
        path = tmp_path / ("saved.ckpt" if ".ckpt" in way else "saved.safetensors")
        save(path)
        counts.append(sum(name.endswith(".weight") for name in open_weights(path, "--model").infos))
        cpu, wait = saving.measured(save, path)
        assert cpu >= 0 and wait > 0 and not path.exists()
    assert len(counts) == 4 and min(counts) > 100


def test_rows_land_in_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    make_model.write(tmp_path / "model.safetensors", "v1", "small")
    page = tmp_path / "RESULTS.md"
    page.write_text(f"| way |\n{saving.END}\n", encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", page)
    saving.main(["--model", str(tmp_path / "model.safetensors"), "--rounds", "1", "--note", "a test"])
    rows = page.read_text(encoding="utf-8").splitlines()
    assert len(rows) == 6 and all(row.endswith("; a test |") for row in rows[1:5])


def test_every_table_that_a_benchmark_fills_is_on_the_page() -> None:
    page = results.RESULTS.read_text(encoding="utf-8")
    for end in (saving.END, startup.END_OF_STARTS, startup.END_OF_DRY_RUNS, data.END_OF_READINGS, data.END_OF_SCANS):
        assert page.count(end) == 1, end
