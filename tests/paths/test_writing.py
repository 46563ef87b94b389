"""Whether files can be created in a folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from library.paths.faults import new_folder_fault
from library.paths.writing import may_write


@pytest.fixture
def without_nameless_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, and on network drives."""
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)


def test_nothing_stays_of_the_question(tmp_path: Path) -> None:
    before = tmp_path.stat().st_mtime_ns
    assert may_write(tmp_path)
    assert not list(tmp_path.iterdir())
    if hasattr(os, "O_TMPFILE"):
        assert tmp_path.stat().st_mtime_ns == before


@pytest.mark.usefixtures("without_nameless_files")
def test_nothing_stays_of_a_file_with_a_name(tmp_path: Path) -> None:
    assert may_write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", [PermissionError(errno.EACCES, "Permission denied"), FileNotFoundError(errno.ENOENT, "No such file")])
@pytest.mark.usefixtures("without_nameless_files")
def test_a_folder_that_refuses_new_files_in_spite_of_its_permissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    """Windows: access lists say PermissionError, controlled folder access says that the file does not exist."""

    def refuse(path: Path, mode: str) -> None:
        assert (path.parent, mode) == (tmp_path, "xb")
        raise fault

    monkeypatch.setattr(Path, "open", refuse)
    assert not may_write(tmp_path)
    problem = new_folder_fault(tmp_path / "new")
    assert problem is not None
    assert problem.line.endswith(f"no permission to write in {tmp_path}; choose another folder [SD-PATH-005]")


@pytest.mark.usefixtures("without_nameless_files")
def test_a_full_disk_is_no_prohibition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, mode: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    assert may_write(tmp_path)
