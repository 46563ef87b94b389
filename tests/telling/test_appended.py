"""A file to which records are added: none is half, none is lost while there is memory, and nothing is raised."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from library import console
from library.errors import UserError, coded
from library.telling import appended
from library.telling.appended import AppendedFile
from tests import windows_rules
from tests.messages import message


class Limited:
    """An open file of at most `most` bytes, on a disk that fills up in the middle of a record."""

    def __init__(self, file, disk: dict[str, int]) -> None:
        self._file, self._disk = file, disk

    def write(self, data: bytes) -> int:
        room = self._disk["most"] - os.fstat(self._file.fileno()).st_size
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data[:room])

    def __getattr__(self, name: str):
        return getattr(self._file, name)


def test_records_are_whole_whenever_the_disk_fills_up_and_come_when_there_is_room(tmp_path: Path, monkeypatch) -> None:
    disk, reported = {"most": 25}, []
    real = AppendedFile._opened
    monkeypatch.setattr(AppendedFile, "_opened", lambda self: Limited(real(self), disk))
    file = AppendedFile(tmp_path / "new" / "log", reported.append)
    assert [file.add(f"record {number}\n".encode()) for number in range(4)] == [True, True, False, False]
    assert (tmp_path / "new" / "log").read_text() == "record 0\nrecord 1\n" and file.failed == 2
    disk["most"] = 1000
    assert file.add(b"record 4\n") and file.failed == 0
    file.close()
    assert (tmp_path / "new" / "log").read_text() == "".join(f"record {number}\n" for number in range(5))
    assert len(reported) == 1
    message(reported, tmp_path / "new" / "log", "No space left on device")


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(appended, "MOST_WAITING", 3)
    path = tmp_path / "log"
    path.mkdir()
    file = AppendedFile(path, lambda line: None)
    for number in range(5):
        file.add(f"{number}\n".encode())
    assert file.failed == 5
    path.rmdir()
    file.close()
    assert path.read_text() == "2\n3\n4\n" and file.failed == 2


def test_a_folder_that_is_removed_meanwhile_is_told_and_made_again(tmp_path: Path) -> None:
    reported: list[str] = []
    opened: list[int] = []
    file = AppendedFile(tmp_path / "out" / "log", reported.append, lambda: opened.append(1))
    file.add(b"1\n")
    with windows_rules.not_here():
        shutil.rmtree(tmp_path / "out")
    assert file.add(b"2\n") and file.add(b"3\n")
    file.close()
    assert (tmp_path / "out" / "log").read_text() == "2\n3\n"
    assert len(reported) == 1 and opened == [1]
    message(reported, tmp_path / "out" / "log", "removed", "new file")


def test_a_console_log_file_that_cannot_be_written_is_told_on_the_screen_with_its_lines(tmp_path: Path, capsys) -> None:
    path = tmp_path / "run.log"

    def main(argv: list[str]) -> None:
        console.tell_as(None, path)
        console.log.info("one")
        with windows_rules.not_here():
            path.unlink()
            path.mkdir()
            console.log.info("two")
            console.log.info("three")
            path.rmdir()
        console.log.info("four")
        raise UserError(coded("PATH-001", "five"))

    assert console.run_script(main, []) == 2
    output = capsys.readouterr().err.splitlines()
    assert [line for line in output if not line.startswith("warning")] == ["two", "three", "error: five [SD-PATH-001]"]
    assert sum("--console_log_file: " in line and "cannot be written" in line for line in output) == 1
    assert path.read_text() == "two\nthree\nfour\nerror: five [SD-PATH-001]\n"


def test_a_log_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        console.tell_as(None, tmp_path / "none" / "run.log")


def test_a_mistake_in_a_line_ends_nothing(tmp_path: Path, capsys) -> None:
    def main(argv: list[str]) -> None:
        console.log.info("%d images", "not a number")
        console.tell_as(None, tmp_path / "run.log")
        console.log.info("%d images", "not a number")
        console.log.info("continues")

    assert console.run_script(main, []) == 0
    assert (tmp_path / "run.log").read_text() == "continues\n" and capsys.readouterr().err.count("Logging error") == 2
