"""A model with NaN in its weights: refused where every loss would be NaN, warned of where training may not use them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from library.model.load import load
from tests.listening import Heard
from tests.messages import message, refused
from tests.small_models import write_checkpoint


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model.safetensors", dtype=torch.float32)


def with_number(path: Path, name: str, number: float) -> None:
    tensors = load_file(path)
    tensors[name].view(-1)[-1] = number
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("name", "number", "part"),
    [
        ("model.diffusion_model.out.2.weight", math.nan, "unet"),
        ("model.diffusion_model.out.2.bias", -math.inf, "unet"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", math.nan, "text_encoder"),
        ("first_stage_model.encoder.conv_in.weight", math.inf, "vae"),
    ],
)
def test_a_model_with_a_number_that_is_not_finite_is_refused(name: str, number: float, part: str, sound: Path) -> None:
    with_number(sound, name, number)
    with refused("MODEL-020", sound.name, part, "1 tensor of", "use another model"):
        load(sound)


def test_a_number_that_half_precision_cannot_hold_is_refused_there(sound: Path) -> None:
    with_number(sound, "model.diffusion_model.out.2.weight", 1e5)
    assert load(sound).unet is not None
    with refused("MODEL-020", "float16", "--mixed_precision bf16 or no"):
        load(sound, dtype=torch.float16)


@pytest.mark.parametrize(
    "name", ["first_stage_model.decoder.conv_out.bias", "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
)
def test_what_training_may_not_use_is_a_warning(name: str, sound: Path, heard: Heard) -> None:
    with_number(sound, name, math.nan)
    load(sound)
    message(heard.text, sound.name, "not finite", "use another file")
