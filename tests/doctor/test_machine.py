"""Main memory and encodings."""

from __future__ import annotations

import sys

import psutil
import pytest

from library.doctor.machine import judge_encodings, judge_memory
from tests.doctor.fakes import doctor, lines_of
from tests.messages import message

GIB = 1 << 30


@pytest.mark.parametrize(("total", "free", "level"), [(32, 20, "ok"), (32, 2, "note"), (6, 5, "note")])
def test_little_memory_is_a_note(total: int, free: int, level: str) -> None:
    assert judge_memory((total * GIB, free * GIB)).level == level


def test_memory_is_that_of_the_machine_and_unknown_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{psutil.virtual_memory().total / GIB:.1f} GiB," in judge_memory().text
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert judge_memory().level == "note" and "unknown" in judge_memory().text


def test_output_that_lacks_letters_is_a_note() -> None:
    assert [finding.level for finding in judge_encodings()] in (["ok"], ["note"])
    code, text = doctor("--", "train_nothing.py", PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    message(lines_of(text, "note"), "cp1252", "PYTHONUTF8=1")
    assert code == 1  # train_nothing.py does not exist
