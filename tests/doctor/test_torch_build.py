"""PyTorch against driver and card: the answers that such machines give, and what is made of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from library.doctor import driver as driver_module
from library.doctor.child_process import Answer
from library.doctor.driver import Driver, find_driver
from library.doctor.findings import Finding
from library.doctor.heavy import _product
from library.doctor.torch_build import judge_torch, runs_on
from tests.doctor import fakes
from tests.messages import message

RTX = Driver(("NVIDIA GeForce RTX 3060",), "580.65.06")
RIGHT = ("cuda:0 float32 right", "cuda:0 bfloat16 right", "cuda:0 float16 right")
SOUND = {
    "version": ("2.13.0+cu130",), "cuda": ("13.0",), "architecture": ("sm_75", "sm_80", "sm_86", "sm_90", "sm_120"),
    "card": ("cuda:0 8.6 NVIDIA GeForce RTX 3060",), "product": RIGHT,
}  # fmt: skip
CPU = {"version": ("2.13.0+cpu",), "product": ("cpu float32 right",)}
NO_CARD = {"version": ("2.13.0+cu130",), "cuda": ("13.0",), "unavailable": ("RuntimeError: No CUDA GPUs are available",)}


def judged(answers: dict[str, tuple[str, ...]], driver: Driver, level: str, failure: str | None = None) -> list[Finding]:
    return [finding for finding in judge_torch(Answer(answers, failure), driver) if finding.level == level]


def test_sound_card_has_neither_fault_nor_note() -> None:
    assert not judged(SOUND, RTX, "error") and not judged(SOUND, RTX, "note")
    message(judged(SOUND, RTX, "ok")[-1].text, "cuda:0", "float32, bfloat16, float16")


def test_machine_without_a_card_is_no_fault() -> None:
    for answers in (CPU, NO_CARD):
        assert not judged(answers, Driver(), "error") and len(judged(answers, Driver(), "note")) == 1


@pytest.mark.parametrize(
    ("answers", "driver", "names", "remedy"),
    [
        (CPU, RTX, ("CPU only", "NVIDIA GeForce RTX 3060"), "Get started"),
        (CPU, Driver(problem="an NVIDIA card is present, but its driver is missing"), ("driver is missing",), "newest driver"),
        (NO_CARD, Driver(problem="an NVIDIA card is present, but its driver is missing"), ("driver is missing",), "newest driver"),
        (NO_CARD, Driver(("GTX",), "551.23"), ("driver 551.23", "CUDA 13.0", "580"), "newest driver"),
        (NO_CARD, RTX, ("No CUDA GPUs are available",), "newest driver"),
        (SOUND | {"card": ("cuda:0 6.1 GTX 1080",)}, RTX, ("cuda:0", "GTX 1080", "6.1"), "older CUDA"),
        (SOUND | {"product": (*RIGHT[:2], "cuda:0 float16 wrong")}, RTX, ("float16", "cuda:0", "wrong"), "newest driver"),
        (SOUND | {"product": ("cuda:0 float32 RuntimeError: no kernel image",)}, RTX, ("RuntimeError: no kernel",), "Get started"),
    ],
)  # fmt: skip
def test_each_fault_is_told_with_its_remedy(
    answers: dict[str, tuple[str, ...]], driver: Driver, names: tuple[str, ...], remedy: str
) -> None:
    (finding,) = judged(answers, driver, "error")
    message(finding.text, *names)
    assert remedy in finding.remedy


def test_cards_that_a_variable_hides_are_not_the_drivers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    (finding,) = judged(NO_CARD, RTX, "error")
    assert "CUDA_VISIBLE_DEVICES" in finding.text and finding.remedy == "unset CUDA_VISIBLE_DEVICES"


def test_crash_on_the_card_is_a_fault() -> None:
    (finding,) = judged(SOUND, RTX, "error", "while a matrix product in float16 on cuda:0, the process ended with SIGSEGV")
    assert "SIGSEGV" in finding.text


def test_card_older_than_bfloat16_is_a_note() -> None:
    answers = SOUND | {"card": ("cuda:0 7.5 RTX 2080",), "product": (RIGHT[0], "cuda:0 bfloat16 RuntimeError: not supported", RIGHT[2])}
    assert not judged(answers, RTX, "error")
    assert "--mixed_precision fp16" in judged(answers, RTX, "note")[0].remedy


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ("8.6", ["sm_80"], True),  # machine code of the same major version
        ("8.0", ["sm_86"], False),
        ("9.0", ["sm_86"], False),
        ("12.0", ["sm_90", "compute_90"], True),  # PTX is translated for what is newer
        ("7.5", ["compute_90"], False),
        ("9.0", ["sm_90a"], True),
        ("10.3", ["sm_100a"], False),  # bound to one architecture
        ("12.0", ["sm_120"], True),
        ("8.6", [], False),
    ],
)
def test_code_runs_where_nvidia_says_it_does(capability: str, built_for: list[str], runs: bool) -> None:
    assert runs_on(capability, built_for) is runs


def test_product_of_a_device_that_computes_wrongly_is_found() -> None:
    import torch

    assert _product(torch, "cpu", "float32") == "right"

    class Wrong:
        float32 = torch.float32

        @staticmethod
        def tensor(rows: list[list[int]], **_: object) -> torch.Tensor:
            return torch.tensor(rows, dtype=torch.float32) + torch.eye(len(rows))

    assert _product(Wrong, "cpu", "float32") == "wrong"  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("code", "driver"),
    [
        ("echo '580.65.06, NVIDIA H200, 141 GB'; echo '580.65.06, B'", Driver(("NVIDIA H200, 141 GB", "B"), "580.65.06")),
        ("echo 'No devices were found'; exit 6", Driver()),
        ("echo 'Driver/library version mismatch'; exit 18", Driver(problem="nvidia-smi fails: Driver/library version mismatch")),
    ],
)
def test_nvidia_smi_is_understood(code: str, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.program(tmp_path, "nvidia-smi", code)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_driver() == driver


def test_card_on_the_bus_without_a_driver_is_known_by_its_maker(tmp_path: Path) -> None:
    for kind, nvidia in (("0x030000", True), ("0x040300", False)):  # display, sound
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "vendor").write_text("0x10de\n", encoding="ascii")
        (tmp_path / kind / "class").write_text(kind + "\n", encoding="ascii")
        assert driver_module._is_nvidia(tmp_path / kind) is nvidia
    assert not driver_module._is_nvidia(tmp_path)
