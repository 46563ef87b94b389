"""What a step frees stays in the process: the next step meets no fresh pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from library.training.memory.heap import keep_freed_memory

ROOT = Path(__file__).resolve().parents[3]
# how many pages come anew in the last of some rounds that each make and free the same tensors, of 512 MiB
FAULTS = """
import resource, sys
import torch
from library.training.memory.heap import keep_freed_memory
kept = sys.argv[1] == "kept" and keep_freed_memory()
assert kept == (sys.argv[1] == "kept")
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    made = [torch.ones((1 << 20) + 1000 * n) for n in range(64)]
    more = [one + one for one in made]
    del made, more
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_memory_that_was_freed_is_used_again_without_faults() -> None:
    assert faults("kept") < 2_000 < 50_000 < faults("plain")


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_keep_their_ways(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert not keep_freed_memory()
