"""What the files that tools make say of themselves: their own name and a complete model card with its hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from library.model.family import FAMILIES
from library.surgery.own_metadata import own_metadata
from networks import extract_lora_from_dylora, extract_lora_from_models, merge_lora, resize_lora, svd_merge_lora
from tests.scripts.running import run_in_process
from tests.surgery.conftest import deltas, relative

CARD = {"sai_model_spec", "architecture", "implementation", "title", "date", "resolution", "prediction_type", "hash_sha256"}


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def body_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


@pytest.fixture(scope="module")
def named(files, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The LoRAs "a" and "b" as a training saves them: with an output name, a title and an author of their own."""
    folder = tmp_path_factory.mktemp("named")
    found = {}
    for name in ("a", "b"):
        said = {"ss_output_name": name, "modelspec.title": name, "modelspec.author": "Ann", "ss_base_model_version": "sd_v1"}
        said |= {
            "ss_resolution": "(640, 512)",
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.hash_sha256": "0x00",
            "sshs_model_hash": "00",
        }
        found[name] = folder / f"{name}.safetensors"
        save_file(load_file(files[name]), found[name], said)
    return found


def test_every_tool_names_its_file_and_completes_its_card(named, files, tiny_v1: Path, merged: Path, tmp_path: Path) -> None:
    both = ("--models", named["a"], named["b"], "--ratios", 0.5, 0.5)
    tools = {
        "resized": (resize_lora, "--model", named["a"], "--new_rank", 2),
        "averaged": (merge_lora, *both),
        "joined": (merge_lora, *both, "--concat"),
        "cut": (svd_merge_lora, *both, "--new_rank", 3),
        "extracted": (extract_lora_from_models, "--model_org", tiny_v1, "--model_tuned", merged, "--dim", 2),
        "ranks": (extract_lora_from_dylora, "--model", named["a"], "--rank", 2),
    }
    for name, (tool, *argv) in tools.items():
        path = tmp_path / f"{name}.safetensors"
        assert run_in_process(tool.main, *argv, "--save_to", path) == 0
        path = tmp_path / "ranks-2.safetensors" if name == "ranks" else path
        said = metadata(path)
        assert said["ss_output_name"] == said["modelspec.title"] == path.stem, name
        assert {f"modelspec.{key}" for key in CARD} <= said.keys(), name
        assert said["modelspec.architecture"] == "stable-diffusion-v1/lora" and said["modelspec.prediction_type"] == "epsilon"
        assert said["modelspec.resolution"] == ("512x512" if name == "extracted" else "640x512"), name
        assert ("modelspec.author" in said) == (name != "extracted")
        assert said["sshs_model_hash"] == said["modelspec.hash_sha256"].removeprefix("0x") == body_hash(path)
        bare = tmp_path / f"bare-{name}.safetensors"
        if name != "ranks":
            assert run_in_process(tool.main, *argv, "--save_to", bare, "--no_metadata") == 0
            assert metadata(bare).keys() == {"sshs_model_hash", "sshs_legacy_hash"}


def test_a_resized_file_of_diffusers_no_longer_has_its_settings(files, tmp_path: Path) -> None:
    """Its alphas are tensors then, beside which Diffusers refuses settings."""
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    key, ours = "lora_unet_" + path.replace(".", "_"), load_file(files["a"])
    names = {f"unet.{path}.lora_A.weight": ours[f"{key}.lora_down.weight"], f"unet.{path}.lora_B.weight": ours[f"{key}.lora_up.weight"]}
    settings = json.dumps({"unet.r": 4, "unet.lora_alpha": 2})
    save_file(names, tmp_path / "theirs.safetensors", {"lora_adapter_metadata": settings, "format": "pt"})
    arguments = ("--model", tmp_path / "theirs.safetensors", "--new_rank", 4, "--save_to", tmp_path / "r.safetensors")
    assert run_in_process(resize_lora.main, *arguments) == 0
    assert "lora_adapter_metadata" not in metadata(tmp_path / "r.safetensors")
    assert relative(deltas(tmp_path / "r.safetensors")[key], deltas(files["a"])[key]) < 1e-6  # whose alpha is 2 too


@pytest.mark.parametrize(
    ("said", "name", "architecture", "resolution"),
    [
        ({}, "v1", "stable-diffusion-v1/lora", "512x512"),
        ({}, "v2", "stable-diffusion-v2-512/lora", "512x512"),
        ({"modelspec.prediction_type": "v"}, "v2", "stable-diffusion-v2-768-v/lora", "768x768"),
        ({"ss_base_model_version": "sd_v2_v"}, None, "stable-diffusion-v2-768-v/lora", "768x768"),
        ({"ss_v2": "True"}, None, "stable-diffusion-v2-512/lora", "512x512"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "v2", "stable-diffusion-v2-768-v/lora", "768x768"),
        ({}, None, None, None),
    ],
)
def test_the_card_follows_from_what_is_known(said, name: str | None, architecture: str | None, resolution: str | None) -> None:
    card = own_metadata(said, "cat", FAMILIES.get(name or ""))
    assert card.get("modelspec.architecture") == architecture and card.get("modelspec.resolution") == resolution
    assert card["ss_output_name"] == "cat" and card.get("modelspec.title") == ("cat" if architecture else None)


def test_a_model_with_a_lora_merged_in_goes_by_its_own_name(tiny_v1: Path, named, tmp_path: Path) -> None:
    save_file(
        {name: tensor.clone() for name, tensor in load_file(tiny_v1).items()}, tmp_path / "m.safetensors", {"modelspec.title": "base"}
    )
    arguments = ("--sd_model", tmp_path / "m.safetensors", "--models", named["a"], "--save_to", tmp_path / "new.safetensors")
    assert run_in_process(merge_lora.main, *arguments) == 0
    said = metadata(tmp_path / "new.safetensors")
    assert said["modelspec.title"] == "new" and "ss_output_name" not in said and said["merged_networks"] == "a.safetensors: 1"
