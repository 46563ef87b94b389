"""Files `save` and `stop`: what counts as one, and what becomes of one that cannot be removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.training.step.request_files import RequestFiles


def test_a_folder_of_that_name_is_no_request_and_stays(tmp_path: Path) -> None:
    for name in ("save", "stop"):
        (tmp_path / name).mkdir()
    requests = RequestFiles(tmp_path)
    requests.forget_old()
    assert not requests.look() and not requests.stop
    assert requests.forget() == [] and sorted(path.name for path in tmp_path.iterdir()) == ["save", "stop"]
    (tmp_path / "save.txt").touch()
    assert requests.look() and requests.forget("save") == ["save.txt"] and not requests.look()


def test_a_request_that_cannot_be_removed_is_obeyed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard) -> None:
    requests = RequestFiles(tmp_path)
    (tmp_path / "save").touch()

    def refused(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        assert requests.look()
        assert requests.forget("save") == [] and not requests.look() and not requests.save
        requests.forget("save")
    assert sum("Permission denied" in line for line in heard.lines) == 1
    (tmp_path / "save").unlink()
    assert not requests.look()
    (tmp_path / "save").touch()  # somebody else's, a new request
    assert requests.look()
