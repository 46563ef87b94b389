"""Inpainting models: what their U-Net is given and what they draw, against diffusers' own pipeline, and their forms on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from library.errors import UserError
from library.model.bundle import StableDiffusion
from library.model.diffusers_folder import save_diffusers
from library.model.drawing.generate import GenerateSettings, generate
from library.model.drawing.image_start import ImageStart
from library.model.drawing.samplers import make_scheduler
from library.model.files.facts import check_flags, inspect
from library.model.load import load
from library.model.probe import looks_like_epsilon
from library.model.save import save_checkpoint
from library.training.samples.start_images import read_mask, read_pixels
from tests.messages import refusals
from tests.small_models import write_inpainting
from tests.small_pictures import write_ramp

pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
SIZE = (64, 96)
SETTINGS = GenerateSettings("a photo of a cat", "ugly", *SIZE, 4, 4.0, seed=7)


@pytest.fixture(scope="module")
def model(tiny_inpainting: Path) -> StableDiffusion:
    return load(tiny_inpainting)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_ramp(tmp_path / "image.png", SIZE)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """White and grey next to black, its edges across latents."""
    white = Image.new("L", SIZE, 0)
    white.paste(255, (0, 0, 37, 50))
    white.paste(127, (40, 60, 64, 80))
    white.paste(128, (10, 60, 30, 90))
    white.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


@pytest.fixture
def seen(model: StableDiffusion) -> Iterator[list[torch.Tensor]]:
    """All that the U-Net is given meanwhile."""
    inputs: list[torch.Tensor] = []
    hook = model.unet.register_forward_pre_hook(
        lambda unet, arguments, more: inputs.append(arguments[0].detach().clone()), with_kwargs=True
    )
    yield inputs
    hook.remove()


def theirs(model: StableDiffusion, sampler: str, strength: float, image: Path, mask: Path) -> np.ndarray:
    from diffusers import StableDiffusionInpaintPipeline

    parts: dict[str, Any] = {
        "vae": model.vae,
        "text_encoder": model.text_encoder,
        "tokenizer": model.tokenizer.tokenizer,
        "unet": model.unet,
    }
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionInpaintPipeline(**parts, scheduler=make_scheduler(sampler, model.prediction), **none)
    pipeline.set_progress_bar_config(disable=True)
    asked = {"prompt": SETTINGS.prompt, "negative_prompt": SETTINGS.negative, "num_inference_steps": SETTINGS.steps, "guidance_scale": 4.0}
    asked |= {"width": SIZE[0], "height": SIZE[1], "strength": strength, "generator": torch.Generator().manual_seed(7)}
    return np.asarray(pipeline(image=Image.open(image), mask_image=Image.open(mask), **asked).images[0], dtype=np.int16)


@pytest.mark.parametrize(("sampler", "strength"), [("ddim", 1.0), ("euler", 1.0), ("heun", 0.5), ("euler_a", 0.8)])
def test_input_and_picture_are_those_of_diffusers(
    sampler: str, strength: float, model: StableDiffusion, image: Path, mask: Path, seen: list[torch.Tensor]
) -> None:
    expected = theirs(model, sampler, strength, image, mask)
    given_by_them = seen[:]
    seen.clear()
    start = ImageStart(read_pixels(image, SIZE), strength, read_mask(mask, SIZE))
    ours = np.asarray(generate(model, replace(SETTINGS, sampler=sampler, start=start)), dtype=np.int16)
    assert len(seen) == len(given_by_them) > 0
    for one, other in zip(seen, given_by_them, strict=True):
        assert one.shape[1] == 9
        assert torch.equal(one[:, 4], other[:, 4]), "the mask"
        assert 0 < one[:, 4].mean() < 1
        assert torch.allclose(one[:, 5:], other[:, 5:], atol=1e-5), "the masked image"
        assert (one[:, :4] - other[:, :4]).abs().max() <= 1e-4 * other[:, :4].abs().max(), "the noisy latents"
    assert np.abs(ours - expected).max() <= 1


def test_without_an_image_all_is_filled_in_as_under_a_white_mask(model: StableDiffusion, image: Path, tmp_path: Path) -> None:
    Image.new("L", SIZE, 255).save(tmp_path / "white.png")
    ours = np.asarray(generate(model, SETTINGS), dtype=np.int16)
    assert np.abs(ours - theirs(model, "ddim", 1.0, image, tmp_path / "white.png")).max() <= 1


def test_the_model_is_recognised_with_and_without_its_option(tiny_inpainting: Path, tiny_v1: Path, tmp_path: Path) -> None:
    facts = inspect(tiny_inpainting)
    assert facts.inpaints and not inspect(tiny_v1).inpaints
    check_flags(facts, False, False, train_inpainting=True)
    with pytest.raises(UserError) as missing:
        check_flags(facts, False, False, train_inpainting=False)
    with pytest.raises(UserError) as wrong:
        check_flags(inspect(tiny_v1), False, False, train_inpainting=True)
    refusals(missing.value, ("MODEL-007", "--train_inpainting is missing", "9 input channels", "add --train_inpainting"))
    refusals(wrong.value, ("MODEL-007", "--train_inpainting", "4 input channels", "remove the flag"))


def test_every_form_holds_the_same_weights_and_diffusers_reads_it(model: StableDiffusion, tiny_inpainting: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline, StableDiffusionInpaintPipeline

    save_diffusers(model, tmp_path / "folder", torch.float16)
    assert (
        json.loads((tmp_path / "folder" / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
        == "StableDiffusionInpaintPipeline"
    )
    assert inspect(tmp_path / "folder").inpaints
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "folder", local_files_only=True, torch_dtype=torch.float32)
    assert isinstance(pipeline, StableDiffusionInpaintPipeline)
    assert torch.equal(pipeline.unet.conv_in.weight, model.unet.conv_in.weight)
    save_checkpoint(load(tmp_path / "folder"), tmp_path / "back.safetensors", torch.float16)
    before, after = load_file(tiny_inpainting), load_file(tmp_path / "back.safetensors")
    first = "model.diffusion_model.input_blocks.0.0.weight"
    assert before[first].shape[1] == 9 and torch.equal(before[first], after[first])


def test_a_v2_inpainting_model_is_asked_for_its_prediction(tmp_path: Path) -> None:
    """It is asked at all: the probe makes nine channels."""
    path = write_inpainting(tmp_path / "tiny.safetensors", "v2")
    assert looks_like_epsilon(load(path, v2=True)) is None  # random weights predict neither
