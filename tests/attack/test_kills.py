"""Kills at random file operations and moments over the five scripts: nothing unreadable, nothing left over, every end bit-identical."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.attack.fork_server import ForkServer
from tests.attack.kill_checks import compare, newest_state, unreadable
from tests.attack.killing import attack
from tests.attack.runs import Kill, options_in, run, scripts_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def check(server: ForkServer, kills: int, seed: int, tiny_v1: Path, photos: Path, tmp_path: Path, updates: int = 4) -> None:
    counts = attack(server, tmp_path, kills, seed, scripts_of(tiny_v1, photos, tmp_path / "prompts.txt", updates))
    print(counts.text())
    assert not counts.faults, counts.text()
    assert counts.kills.total() >= kills and len(counts.kills) == 5


def test_ten_kills_do_no_harm(server: ForkServer, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    check(server, 10, 11, tiny_v1, photos, tmp_path, updates=3)


@pytest.mark.slow
def test_two_hundred_kills_do_no_harm(server: ForkServer, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    check(server, 200, random.SystemRandom().getrandbits(31), tiny_v1, photos, tmp_path)


def test_a_kill_between_state_and_sample_of_an_update_loses_neither_image_nor_line(
    server: ForkServer, tiny_v1: Path, photos: Path, tmp_path: Path
) -> None:
    """Killed before the state's own line, then before that of the samples, which are there by then."""
    script = "train_network"
    options = scripts_of(tiny_v1, photos, tmp_path / "prompts.txt")[script]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(server, script, options_in(script, options, whole), whole).code == 0
    for line in ("saved_state 2", "samples 2"):
        assert run(server, script, options_in(script, options, parts), parts, Kill(line=line)).code == -signal.SIGKILL
        assert list(unreadable(parts)) == []
        state = newest_state(parts / "out")
        assert state is not None and "00000002" in state.name
    images = sorted((parts / "out" / "sample").glob("cat_000002_*.png"))
    assert len(images) == 2
    ended = run(server, script, options_in(script, options, parts), parts)
    assert ended.code == 0, ended.told
    assert list(compare(whole, parts)) == []
    assert sorted((parts / "out" / "sample").glob("cat_000002_*.png")) == images  # drawn once
