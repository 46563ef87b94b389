"""Jobs that fail, crash, end the process or hang are reported as such, and the jobs after them still run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from library.doctor.child_process import Answer, ask
from library.doctor.extensions import judge_bitsandbytes, judge_packages, judge_xformers
from tests.doctor import fakes
from tests.messages import message


def asked(folder: Path, monkeypatch: pytest.MonkeyPatch, *jobs: str, time_limit: float = 60.0) -> dict[str, Answer]:
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return ask({job: ("toml", "tqdm") if job == "packages" else () for job in jobs}, time_limit)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (fakes.LOADS_NOT, ("OSError", "[WinError 126]")),
        (fakes.ENDS, ("importing torch", "exit code 3")),
        ("raise SystemExit(4)", ("SystemExit: 4",)),
        ("import sys; sys.stderr.write('no room\\nfor it\\n'); sys.stderr.flush(); " + fakes.ENDS, ("exit code 3 (for it)",)),
    ],
)
def test_job_that_fails_is_told_and_the_next_one_runs(
    code: str, names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.package(tmp_path, "torch", code)
    answers = asked(tmp_path, monkeypatch, "torch", "packages")
    message(answers["torch"].failure or "", *names)
    assert answers["packages"].failure is None and answers["packages"].all("loaded") == ("toml", "tqdm")


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_signal_that_ends_the_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.package(tmp_path, "torch", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert "ended with SIGSEGV" in (asked(tmp_path, monkeypatch, "torch")["torch"].failure or "")


def test_job_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.package(tmp_path, "torch", fakes.HANGS)
    answers = asked(tmp_path, monkeypatch, "torch", time_limit=3.0)
    message(answers["torch"].failure or "", "importing torch", "3 seconds")


def test_bitsandbytes_that_does_not_load_is_a_fault_with_a_way_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.package(tmp_path, "bitsandbytes", "raise OSError('libcudart.so.13: cannot open shared object file')")
    finding = judge_bitsandbytes(asked(tmp_path, monkeypatch, "bitsandbytes")["bitsandbytes"])
    assert finding.level == "error" and "libcudart.so.13" in finding.text and "--optimizer_type AdamW" in finding.remedy


def test_bitsandbytes_that_steps_wrongly_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "class optim:\n    class AdamW8bit:\n        def __init__(self, *_, **__): pass\n        def step(self): pass"
    fakes.package(tmp_path, "bitsandbytes", code)
    finding = judge_bitsandbytes(asked(tmp_path, monkeypatch, "bitsandbytes")["bitsandbytes"])
    assert finding.level == "error"
    message(finding.text, "bitsandbytes", "1 of a step")


def test_xformers_that_ends_the_process_is_a_fault_and_without_a_card_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.package(tmp_path, "xformers", fakes.ENDS)
    finding = judge_xformers(asked(tmp_path, monkeypatch, "xformers")["xformers"])
    assert finding.level == "error" and "importing xformers.ops" in finding.text and "--sdpa" in finding.remedy
    assert judge_xformers(Answer({"device": ("cpu",), "done": ("",)})).level == "note"
    assert judge_xformers(Answer({"device": ("cuda",), "result": ("numbers are off by 3",)})).level == "error"
    assert judge_xformers(Answer({"device": ("cuda",), "result": ("right",)})).level == "ok"


def test_package_that_does_not_load_is_a_fault_by_the_name_under_which_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.package(tmp_path, "cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = ask({"packages": ("cv2", "toml")})["packages"]
    good, wrong = judge_packages(answer, torch_loads=True, installed=frozenset({"opencv-python"}))
    message(good.text, "toml")
    message(wrong.text, "opencv-python", "ImportError: libGL.so.1")
    assert good.level == "ok" and wrong.level == "error" and "opencv-python-headless" in wrong.remedy
    assert len(list(judge_packages(answer, torch_loads=True, installed=frozenset()))) == 1  # missing ones are reported with the versions
