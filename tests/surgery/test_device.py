"""--device of the LoRA tools: matrices go there, are decomposed there and return; one that cannot be used is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from library.surgery import device
from networks import extract_lora_from_models, resize_lora, svd_merge_lora
from tests.messages import refusal, refused
from tests.scripts.running import run_in_process, tensors_equal
from tests.surgery.far_device import NAME, far_device


@pytest.fixture(params=["svd_merge_lora", "resize_lora", "extract_lora_from_models"])
def command(request: pytest.FixtureRequest, files: dict[str, Path]) -> tuple:
    """A tool's main and what it works on, so that every module of "c" has to be taken apart."""
    if request.param == "svd_merge_lora":
        return svd_merge_lora.main, "--models", files["a"], files["c"], "--new_rank", 2
    if request.param == "resize_lora":
        return resize_lora.main, "--model", files["c"], "--new_rank", 2
    merged, original = request.getfixturevalue("merged"), request.getfixturevalue("tiny_v1")
    return extract_lora_from_models.main, "--model_org", original, "--model_tuned", merged, "--dim", 2, "--conv_dim", 2


def test_what_is_taken_apart_is_taken_apart_on_the_device_and_the_file_is_the_same(command: tuple, files, tmp_path: Path) -> None:
    here, there = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    with far_device() as computed:
        assert run_in_process(*command, "--save_to", here) == 0
        assert not computed
        assert run_in_process(*command, "--save_to", there, "--device", NAME) == 0
    modules = 189  # of "c"
    assert computed.count("linalg_svd") == modules and computed.count("linalg_qr") >= modules
    assert tensors_equal(here, there)


@pytest.mark.parametrize("name", ["cuda:99", "warp9", "meta", "hpu"])
def test_a_device_that_cannot_be_used_is_one_line_and_nothing_is_written(command: tuple, name: str, tmp_path: Path, capsys) -> None:
    assert run_in_process(*command, "--save_to", tmp_path / "x.safetensors", "--device", name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    refusal([line], "OPT-018", f"--device {name}", "CPU")
    assert len(line) < 250
    assert not list(tmp_path.iterdir())


def test_a_device_without_the_linear_algebra_of_the_tools_is_told_before_they_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Apple's GPUs, whose torch has had no QR decomposition."""

    def missing(matrix: torch.Tensor) -> None:
        raise NotImplementedError("The operator 'aten::linalg_qr.out' is not currently implemented for the MPS device. If you want this …")

    monkeypatch.setattr(torch.linalg, "qr", missing)
    with refused("OPT-018", "--device cpu", "The operator 'aten::", "remove it") as error:
        device.usable_device("cpu")
    assert "If you want this" not in str(error.value)
