"""What the tests of generation share: pictures of the tiny model, a LoRA of it, saves of a run, and a comparison of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import gen_img
from tests.generation.drawing import QUICK, Draw
from tests.scripts.running import run_in_process
from tests.small_models import write_strong_lora
from tools import compare_networks

Compare = Callable[..., Path]


@pytest.fixture
def draw(tiny_v1: Path, tmp_path: Path) -> Draw:
    """Generates with the tiny model into a new folder and returns the images in order."""
    count = 0

    def started(*argv: object, ckpt: Path = tiny_v1) -> list[Path]:
        nonlocal count
        count += 1
        folder = tmp_path / f"drawn{count}"
        assert run_in_process(gen_img.main, "--ckpt", ckpt, "--outdir", folder, *QUICK, *argv) == 0
        return sorted(folder.iterdir(), key=lambda path: path.name.split("_")[2:3] or path.name)

    return started


@pytest.fixture(scope="session")
def lora(tiny_v1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of the tiny model that changes much, all of its modules alike."""
    return write_strong_lora(tmp_path_factory.mktemp("lora") / "dog.safetensors", tiny_v1)


@pytest.fixture
def epochs(lora: Path, tmp_path: Path) -> Path:
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
