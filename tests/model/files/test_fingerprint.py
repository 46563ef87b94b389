"""Two VAEs that make the same latents have one fingerprint, any others two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from library.model.files.fingerprint import encoder_fingerprint
from library.model.load import load_vae


def changed(model: Path, place: Path, part: str, dtype: torch.dtype | None = None) -> str:
    """The fingerprint of the VAE when the last weight whose name begins with `part` differs in one value."""
    weights = load_file(model)
    if part:
        name = max(name for name in weights if name.startswith(f"first_stage_model.{part}"))
        weights[name].view(-1)[0] += 0.25
    save_file({name: value.to(dtype or value.dtype) for name, value in weights.items()}, place)
    return encoder_fingerprint(load_vae(place, torch.float32))


@pytest.mark.parametrize(("part", "same"), [("encoder.", False), ("quant_conv.", False), ("decoder.", True), ("post_quant_conv.", True)])
def test_what_makes_latents_counts_and_nothing_else(tiny_v1: Path, tmp_path: Path, part: str, same: bool) -> None:
    own = encoder_fingerprint(load_vae(tiny_v1, torch.float32))
    assert (changed(tiny_v1, tmp_path / "other.safetensors", part) == own) == same


def test_a_copy_in_a_wider_form_is_the_same_vae(tiny_v1: Path, tmp_path: Path) -> None:
    assert changed(tiny_v1, tmp_path / "wide.safetensors", "", torch.float32) == encoder_fingerprint(load_vae(tiny_v1, torch.float32))
