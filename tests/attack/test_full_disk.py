"""Disks that fill up at random bytes, over the five scripts: what was good stays, runs say why they end and go on when there is room."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

if os.name == "nt":
    pytest.skip("forks, and limits on the size of files", allow_module_level=True)

from tests.attack.fork_server import ForkServer
from tests.attack.full_disk import attack
from tests.attack.runs import scripts_of


def check(server: ForkServer, trials: int, seed: int, tiny_v1: Path, photos: Path, tmp_path: Path, only: str | None = None) -> None:
    scripts = scripts_of(tiny_v1, photos, tmp_path / "prompts.txt")
    counts = attack(server, tmp_path, trials, seed, scripts if only is None else {only: scripts[only]})
    print(counts.text())
    assert not counts.faults, counts.text()
    assert counts.full.total() >= trials // 2 and counts.ends == trials


def test_two_disks_fill_up(server: ForkServer, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    check(server, 2, 3, tiny_v1, photos, tmp_path, only="train_network")


@pytest.mark.slow
def test_a_hundred_disks_fill_up(server: ForkServer, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    check(server, 100, random.SystemRandom().getrandbits(31), tiny_v1, photos, tmp_path)
