"""What the tests of generation share: saves of a run, and a comparison of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.generation.test_gen_img import lora  # noqa: F401  # a fixture
from tests.scripts.running import run_in_process
from tools import compare_networks

QUICK = ("--W", "64", "--H", "64", "--steps", "2")
Compare = Callable[..., Path]


@pytest.fixture
def epochs(lora: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A folder with three saves of a run, each stronger than the one before."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name, factor in (("dog-000002", 0.2), ("dog-000010", 0.6), ("dog", 1.0)):
        tensors = {key: tensor * (factor if ".lora_up." in key else 1) for key, tensor in load_file(lora).items()}
        save_file(tensors, folder / f"{name}.safetensors", {"ss_network_module": "networks.lora"})
    return folder


@pytest.fixture
def compare(tiny_v1: Path, epochs: Path, tmp_path: Path) -> Compare:
    """Compares the epochs on the tiny model and returns the folder."""

    def started(*argv: object, code: int = 0) -> Path:
        folder = tmp_path / "comparison"
        files = ("--networks", epochs / "dog*.safetensors") if "--networks" not in argv else ()
        assert run_in_process(compare_networks.main, "--ckpt", tiny_v1, "--outdir", folder, *QUICK, *files, *argv) == code
        return folder

    return started
