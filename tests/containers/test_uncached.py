"""Files written in parts past the page cache: the same bytes, with and without a system that takes the advice."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from library.containers import uncached
from library.containers.uncached import Uncached


@pytest.fixture(autouse=True)
def parts_of_ten_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncached, "PART", 10)


@pytest.mark.parametrize("advice", [True, False])
def test_the_bytes_are_all_there_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advice: bool) -> None:
    if not advice:
        monkeypatch.delattr(os, "posix_fadvise", raising=False)
        monkeypatch.delattr(os, "fdatasync", raising=False)
    pieces = [bytes([n]) * n for n in (1, 9, 10, 0, 25, 3)]
    with (tmp_path / "file").open("wb", buffering=0) as file:
        out = Uncached(file)
        for piece in pieces:
            out.write(memoryview(piece))
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on its cache")
def test_pages_are_forgotten_after_every_part_and_only_once_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda number: asked.append("sync"))
    monkeypatch.setattr(os, "posix_fadvise", lambda number, begin, length, advice: asked.append("forget"))
    with (tmp_path / "file").open("wb", buffering=0) as file:
        Uncached(file).write(b"x" * 25)
    assert asked == ["sync", "forget"] * 2


def test_a_disk_that_takes_less_than_asked_gets_the_rest() -> None:
    class Slow(io.BytesIO):
        def write(self, content: memoryview) -> int:  # type: ignore[override]  # as a raw file does
            return super().write(content[:3])

    out = Slow()
    Uncached(out).write(b"abcdefgh")
    assert out.getvalue() == b"abcdefgh"
