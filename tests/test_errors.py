"""What of an exception stands in a line of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from library import console
from library.errors import UserError, coded, first_line, named_line
from tests.messages import refusal


@pytest.mark.parametrize(
    ("error", "line", "named"),
    [
        (ValueError("no such size"), "no such size", "ValueError: no such size"),
        (RuntimeError("\n  CUDA error\nat file 3\n"), "CUDA error", "RuntimeError: CUDA error"),
        (KeyError("a"), "'a'", "KeyError: 'a'"),
        (ValueError(), "ValueError", "ValueError"),
        (OSError("  \n "), "OSError", "OSError"),
    ],
)
def test_an_error_is_told_in_its_first_line_and_by_its_class_where_it_says_nothing(error: Exception, line: str, named: str) -> None:
    assert first_line(error) == line
    assert named_line(error) == named


def test_a_value_of_thousands_of_letters_loses_its_middle_and_the_line_keeps_its_end() -> None:
    (line,) = UserError(coded("OPT-006", f"--seed: not {'9' * 100_000}; write a number")).lines
    assert len(line) < 1600 and line.startswith("--seed: not 999") and line.endswith("9; write a number [SD-OPT-006]")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no folder that is the current one")
def test_a_removed_working_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert console.run_script(lambda argv: print(Path("x").absolute()), []) == 2
    refusal(capsys.readouterr().err, "PATH-001", "current folder", "cd")


def test_of_an_error_of_the_system_only_the_reason_is_shown() -> None:
    assert first_line(FileNotFoundError(2, "No such file or directory", "a/b.png")) == "No such file or directory"
    assert first_line(OSError("cannot identify image file\nmore")) == "cannot identify image file"
