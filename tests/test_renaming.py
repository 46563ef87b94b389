"""Files take their place on drives and systems that refuse it for a while, or in their own way; nothing is lost where they go on."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from library import files, renaming
from library.files import atomic_folder, atomic_write, tidy
from library.renaming import remove


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(renaming.time, "sleep", waited.append)
    return waited


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, number: int, when: Callable[..., bool]) -> None:
    """`os.<name>` raises the error of this number as long as `when(its arguments)`."""
    real = getattr(os, name)

    def call(*arguments, **more):
        if when(*arguments):
            raise OSError(number, os.strerror(number), str(arguments[0]))
        return real(*arguments, **more)

    monkeypatch.setattr(os, name, call)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EBUSY, errno.EIO])
def test_a_file_that_a_scanner_has_open_for_a_moment_is_waited_for(tmp_path: Path, monkeypatch, waits, number: int) -> None:
    write(tmp_path / "a", "old")
    left = [3]

    def busy(*_: object) -> bool:
        left[0] -= 1
        return left[0] >= 0

    for name in ("replace", "rename"):
        refuse(monkeypatch, name, number, busy)
    write(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text("utf-8") == "new" and names(tmp_path) == ["a"]
    assert waits and len(waits) < len(renaming.DELAYS)


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EPERM, errno.ENOTSUP])
def test_a_drive_that_renames_onto_nothing_gets_the_old_file_out_of_the_way(tmp_path: Path, monkeypatch, waits, number: int) -> None:
    write(tmp_path / "a", "old")
    for name in ("replace", "rename"):
        refuse(monkeypatch, name, number, lambda source, target: Path(target).exists())
    write(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text("utf-8") == "new" and names(tmp_path) == ["a"] and not waits


def test_a_file_that_stays_in_use_stays_as_it_is_and_nothing_lies_beside_it(tmp_path: Path, monkeypatch, waits) -> None:
    write(tmp_path / "a", "old")
    for name in ("replace", "rename"):
        refuse(monkeypatch, name, errno.EACCES, lambda *paths: any(Path(path) == tmp_path / "a" for path in paths))
    with pytest.raises(PermissionError):
        write(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text("utf-8") == "old" and names(tmp_path) == ["a"]
    assert waits == list(renaming.DELAYS)


def test_a_mapped_file_that_can_be_moved_but_not_removed_is_left_for_the_next_start(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "a", "old")
    refuse(monkeypatch, "replace", errno.EACCES, lambda source, target: Path(target).exists())
    refuse(monkeypatch, "unlink", errno.EACCES, lambda path, **_: str(path).endswith(".old"))
    write(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text("utf-8") == "new" and len(names(tmp_path)) == 2
    monkeypatch.undo()
    monkeypatch.setattr(files, "has_writer", lambda path, mark: False)  # the next start: this process is gone
    assert len(tidy(tmp_path, re.compile("a"))) == 1 and names(tmp_path) == ["a"]


def test_a_folder_is_renamed_as_patiently(tmp_path: Path, monkeypatch, waits) -> None:
    for text in ("old", "new"):
        left = [2]

        def busy(*_: object, left=left) -> bool:
            left[0] -= 1
            return left[0] >= 0

        refuse(monkeypatch, "rename", errno.EACCES, busy)
        with atomic_folder(tmp_path / "state") as fresh:
            (fresh / "x").write_text(text, encoding="utf-8")
        monkeypatch.undo()
        monkeypatch.setattr(renaming.time, "sleep", waits.append)
    assert (tmp_path / "state" / "x").read_text("utf-8") == "new" and names(tmp_path) == ["state"] and waits


def test_a_folder_with_a_file_in_use_is_left_whole_rather_than_half_removed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(name, encoding="utf-8")
    with (folder / "b").open("rb"), pytest.raises(PermissionError):
        remove(folder)
    assert names(folder) == ["a", "b", "c"]
    remove(folder)
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_drive_that_cannot_flush_or_set_rights_is_written_to_all_the_same(tmp_path: Path, monkeypatch, number: int) -> None:
    refuse(monkeypatch, "fsync", number, lambda *_: True)
    refuse(monkeypatch, "chmod", errno.EPERM, lambda *_: True)
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("x", encoding="utf-8")
        monkeypatch.undo()
        temporary.chmod(0o600)
        refuse(monkeypatch, "fsync", number, lambda *_: True)
        refuse(monkeypatch, "chmod", errno.EPERM, lambda *_: True)
    with atomic_folder(tmp_path / "b") as fresh:
        (fresh / "x").write_text("x", encoding="utf-8")
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_flush_that_fails_in_earnest_is_told(tmp_path: Path, monkeypatch, number: int) -> None:
    refuse(monkeypatch, "fsync", number, lambda *_: True)
    with pytest.raises(OSError, match=os.strerror(number)):
        write(tmp_path / "a", "x")
    assert names(tmp_path) == []
