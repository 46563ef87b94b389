"""A disk that refuses is told as that by what writes torch's files, at whatever byte it does."""

from __future__ import annotations

import ast
import errno
import io
from pathlib import Path

import pytest
import torch

from library.containers.torch_files import read_plain
from library.containers.uncached import torch_save
from library.files import is_full
from tests.contracts.test_layers import ROOT, source_files

CONTENT = {"a": torch.arange(30_000.0), "b": [torch.ones(500), "text"]}


class Small(io.BytesIO):
    """A file on a disk with room for `room` bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, data) -> int:
        if self.tell() + len(data) > self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    torch_save(CONTENT, tmp_path / "a.pt")
    found = read_plain(tmp_path / "a.pt", mapped=True)
    assert torch.equal(found["a"], CONTENT["a"]) and found["b"][1] == "text"


def test_a_full_disk_is_an_oserror_at_whatever_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_save(CONTENT, tmp_path / "a.pt")
    size = (tmp_path / "a.pt").stat().st_size
    for room in (*range(0, size, size // 40), *(size - less for less in (1, 2, 10, 22, 60, 100, 200, 500))):
        monkeypatch.setattr(Path, "open", lambda path, mode, buffering=-1, room=room: Small(room))
        with pytest.raises(OSError, match="No space left") as fault:
            torch_save(CONTENT, tmp_path / "b.pt")
        assert is_full(fault.value)


def test_nothing_else_calls_torch_save() -> None:
    calls = {
        path.relative_to(ROOT).as_posix()
        for path in source_files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.save"
    }
    assert calls == {"library/containers/uncached.py"}
