"""Full-size files: merging into SD v1.5 needs little more memory than the file, resizing less than 1 GB."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.lora_tools import cases, measure


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="the peak of a process is read in the way of Linux")
def test_memory_of_merging_and_resizing_stays_within_bounds(tmp_path: Path) -> None:
    found = cases(tmp_path)
    for name in ("merge", "merge-float"):
        merged = measure(*found[name])
        assert merged.peak_bytes < 1.3 * merged.file_bytes, merged.row()
    for name in ("resize", "resize-dynamic"):
        resized = measure(*found[name])
        assert resized.peak_bytes < 1e9, resized.row()
