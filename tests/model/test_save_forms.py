"""The forms in which a model is kept: one into another and back gives every tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from library.model.files import keys
from library.model.load import load
from library.model.save_forms import EXTENSIONS, product_form, save_product
from tests.small_models import write_diffusers

PARTS = ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
NETWORKS = (keys.UNET, keys.VAE, "cond_stage_model.")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_original_to_diffusers_and_back_gives_every_tensor(version: str, tiny_v1: Path, tiny_v2: Path, tmp_path: Path) -> None:
    source, v2 = {"v1": tiny_v1, "v2": tiny_v2}[version], version == "v2"
    save_product(load(source, v2=v2), tmp_path / "folder", "diffusers_safetensors", torch.float16)
    save_product(load(tmp_path / "folder", v2=v2), tmp_path / "back.safetensors", "safetensors", torch.float16)
    before, after = load_file(source), load_file(tmp_path / "back.safetensors")
    networks = {name for name in before if name.startswith(NETWORKS)}
    assert set(after) == networks
    # OpenCLIP's last layer, its projection and its scale are no part of Stable Diffusion 2 and of no folder: they are made up
    made_up = {name for name in networks if "resblocks.2." in name or name.endswith(("text_projection", "logit_scale"))} if v2 else set()
    assert all(before[name].equal(after[name]) for name in networks - made_up)
    assert all(before[name].shape == after[name].shape for name in made_up)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
def test_diffusers_to_original_and_back_gives_every_tensor(version: str, form: str, tmp_path: Path) -> None:
    folder, v2 = write_diffusers(tmp_path / "source", version), version == "v2"
    file = tmp_path / f"file{EXTENSIONS[form]}"
    save_product(load(folder, v2=v2), file, form, torch.float16)
    save_product(load(file, v2=v2), tmp_path / "back", "diffusers_safetensors", torch.float16)
    for part in PARTS:
        before, after = (load_file(place / f"{part}.safetensors") for place in (folder, tmp_path / "back"))
        before = {name.removeprefix(keys.TEXT_LEVEL): tensor for name, tensor in before.items()}
        after = {name.removeprefix(keys.TEXT_LEVEL): tensor for name, tensor in after.items()}
        assert before.keys() == after.keys() and all(tensor.equal(after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("asked", "safetensors", "layout", "form"),
    [
        (None, False, "ckpt", "ckpt"),
        (None, True, "ckpt", "safetensors"),
        (None, False, "diffusers", "diffusers"),
        (None, True, "diffusers", "diffusers_safetensors"),
        ("ckpt", False, "safetensors", "ckpt"),
        ("diffusers", True, "safetensors", "diffusers_safetensors"),
        ("safetensors", False, "diffusers", "safetensors"),
    ],
)
def test_the_form_is_the_one_asked_for_or_that_of_the_source(asked: str | None, safetensors: bool, layout: str, form: str) -> None:
    assert product_form(asked, safetensors, layout) == form
