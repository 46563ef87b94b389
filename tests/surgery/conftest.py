"""LoRAs for the tiny v1 model, and that model with one of them merged in by the script."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from library.lora.files import ModuleWeights, group_by_module, read_weights
from library.lora.layers import delta_weight
from networks.lora import create_network
from tests.networks.models import randomize
from tests.scripts.running import run_in_process


def deltas(path: Path) -> dict[str, torch.Tensor]:
    """ΔW of every module of a LoRA file at strength 1, by the plain formula."""
    return {key: delta_of(module) for key, module in group_by_module(read_weights(path), str(path)).items()}


def delta_of(module: ModuleWeights) -> torch.Tensor:
    return delta_weight(module.down, module.up, module.alpha / module.rank)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def write_random(path: Path, text_encoder, unet, dim: int, alpha: float, seed: int, **args: str) -> Path:
    """A LoRA file of random weights."""
    network = create_network(1.0, dim, alpha, None, text_encoder, unet, **args)
    randomize(network, seed, deviation=0.05)
    network.save_weights(path, None, {"ss_network_dim": str(dim), "ss_base_model_version": "sd_v1", "ss_training_comment": "mine"})
    return path


@pytest.fixture(scope="session")
def files(tiny_v1: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files "a" and "b" of rank 4, "c" of rank 8 and with convolutions of rank 3; all with another alpha than their rank."""
    from library.model.load import load

    folder = tmp_path_factory.mktemp("loras")
    model = load(tiny_v1)
    parts = (model.text_encoder, model.unet)
    return {
        "a": write_random(folder / "a.safetensors", *parts, dim=4, alpha=2.0, seed=1),
        "b": write_random(folder / "b.safetensors", *parts, dim=4, alpha=1.0, seed=2),
        "c": write_random(folder / "c.safetensors", *parts, dim=8, alpha=2.0, seed=3, conv_dim="3", conv_alpha="1"),
    }


@pytest.fixture(scope="session")
def merged(tiny_v1: Path, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with 0.8 of "c" merged in, float32."""
    from networks.merge_lora import main

    path = tmp_path_factory.mktemp("merged") / "merged.safetensors"
    assert run_in_process(main, "--sd_model", tiny_v1, "--models", files["c"], "--ratios", 0.8, "--save_to", path) == 0
    return path
