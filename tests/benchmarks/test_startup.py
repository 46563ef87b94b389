"""What startup.py measures: processes that do what they are measured for, and rows that land in their tables."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks import results, startup
from benchmarks.child import usage_of

pytestmark = pytest.mark.skipif(not hasattr(os, "wait4"), reason="Windows does not say what a process has taken")


def test_a_child_is_counted_and_one_that_fails_says_why() -> None:
    busy = usage_of([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"])
    assert 0.5 <= busy.cpu_s < 2 and busy.peak_bytes > 2**20
    with pytest.raises(RuntimeError, match="exit code 3: no such thing"):
        usage_of([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_the_memory_of_a_child_is_its_own_and_not_that_of_who_starts_it() -> None:
    held = b"x" * 400_000_000
    assert usage_of([sys.executable, "-c", "pass"]).peak_bytes < 100_000_000
    assert usage_of([sys.executable, "-c", "held = b'x' * 150_000_000"]).peak_bytes > 150_000_000
    assert len(held) == 400_000_000  # still held


def test_the_launch_ends_when_the_model_is_loaded_and_the_reports_have_an_index(tmp_path: Path) -> None:
    images = startup.write_images(tmp_path / "images", 60, 6, (160, 120))
    one = startup.dry_run(tmp_path, images, 1)
    assert (images / ".sd-scan.json").is_file() and one.first > 0 < one.bare
    usage_of([sys.executable, "-c", startup.UNTIL_LOADED, *startup.command(tmp_path, images)], ACCELERATE_USE_CPU="1")
    assert not list((tmp_path / "out").glob("*.safetensors"))  # nothing was trained


def test_rows_land_in_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text(f"# One\n{startup.END_OF_STARTS}\n\n# Two\n{startup.END_OF_DRY_RUNS}\n", encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", page)
    startup._tell("| x |", startup.END_OF_STARTS, False)
    startup._tell("| y |", startup.END_OF_DRY_RUNS, False)
    startup._tell("| z |", startup.END_OF_DRY_RUNS, True)
    text = page.read_text(encoding="utf-8")
    assert text.index("# One") < text.index("| x |\n<!--") < text.index("# Two") < text.index("| y |\n<!--")
    assert "| z |" not in text and capsys.readouterr().out.split() == "| x | | y | | z |".split()
    with pytest.raises(AssertionError, match="no table"):
        results.add_rows(["| x |"], "no table")
