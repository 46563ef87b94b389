"""Kills at random file operations and moments over the five scripts: nothing unreadable, nothing left over, every end bit-identical."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.kill_checks import compare, newest_state, unreadable
from tests.attack.killing import ForkServer, Kill, attack, fork_server, options_in, scripts_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with fork_server(tmp_path_factory.mktemp("server")) as server:
        yield server


def check(server: ForkServer, kills: int, seed: int, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    counts = attack(server, tmp_path, kills, seed, scripts_of(tiny_v1, photos, tmp_path / "prompts.txt"))
    print(counts.text())
    assert not counts.faults, counts.text()
    assert counts.kills.total() >= kills and len(counts.kills) == 5


def test_ten_kills_do_no_harm(server: ForkServer, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    check(server, 10, 11, tiny_v1, photos, tmp_path)


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
    assert server.run(script, options_in(script, options, whole), whole).code == 0
    for line in ("saved_state 2", "samples 2"):
        assert server.run(script, options_in(script, options, parts), parts, Kill(line=line)).code == -signal.SIGKILL
        assert list(unreadable(parts)) == []
        state = newest_state(parts / "out")
        assert state is not None and "00000002" in state.name
    images = sorted((parts / "out" / "sample").glob("cat_000002_*.png"))
    assert len(images) == 2
    ended = server.run(script, options_in(script, options, parts), parts)
    assert ended.code == 0, ended.told
    assert list(compare(whole, parts)) == []
    assert sorted((parts / "out" / "sample").glob("cat_000002_*.png")) == images  # drawn once
