"""img2img against diffusers' own pipelines, with and without a mask, and against the formula of the masked one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from library.model.bundle import StableDiffusion
from library.model.drawing import generate as drawing
from library.model.drawing.generate import GenerateSettings, generate, generate_together
from library.model.drawing.image_start import ImageStart
from library.model.drawing.samplers import make_scheduler
from library.model.load import load
from library.training.samples.start_images import own_size, read_mask, read_pixels
from tests.small_pictures import write_ramp

pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning")]
SIZE, STEPS, GUIDANCE = (64, 96), 5, 4.0
SETTINGS = GenerateSettings("a photo of a cat", "ugly", *SIZE, STEPS, GUIDANCE, seed=7)


@pytest.fixture(scope="module")
def model(tiny_v1: Path) -> StableDiffusion:
    return load(tiny_v1)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_ramp(tmp_path / "image.png", SIZE)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    white = Image.new("L", SIZE, 0)
    white.paste(255, (0, 0, 32, 56))
    white.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def pipeline(model: StableDiffusion, name: str, sampler: str) -> Any:
    import diffusers

    made = getattr(diffusers, name)(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer.tokenizer,
        unet=model.unet,
        scheduler=make_scheduler(sampler, model.prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def theirs(made: Any, strength: float, image: Path, **more: Any) -> np.ndarray:
    picture = Image.open(image)
    options = {"prompt": SETTINGS.prompt, "negative_prompt": SETTINGS.negative, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
    generator = torch.Generator().manual_seed(7)
    return np.asarray(made(image=picture, strength=strength, generator=generator, **options, **more).images[0], dtype=np.int16)


def ours(model: StableDiffusion, strength: float, image: Path, sampler: str, mask: Path | None = None) -> np.ndarray:
    start = ImageStart(read_pixels(image, SIZE), strength, None if mask is None else read_mask(mask, SIZE))
    return np.asarray(generate(model, replace(SETTINGS, sampler=sampler, start=start)), dtype=np.int16)


@pytest.mark.parametrize(("sampler", "strength"), [("ddim", 0.6), ("euler_a", 0.8), ("heun", 0.5), ("pndm", 0.6), ("dpmsolver++", 1.0)])
def test_a_picture_from_an_image_is_that_of_diffusers(sampler: str, strength: float, model: StableDiffusion, image: Path) -> None:
    expected = theirs(pipeline(model, "StableDiffusionImg2ImgPipeline", sampler), strength, image)
    assert np.abs(ours(model, strength, image, sampler) - expected).max() <= 1


@pytest.mark.parametrize(("sampler", "strength"), [("ddim", 0.6), ("euler_a", 0.8), ("heun", 0.5), ("ddim", 1.0), ("euler", 1.0)])
def test_a_masked_picture_is_that_of_diffusers(sampler: str, strength: float, model: StableDiffusion, image: Path, mask: Path) -> None:
    made = pipeline(model, "StableDiffusionInpaintPipeline", sampler)
    sizes = {"width": SIZE[0], "height": SIZE[1]}
    unused = torch.zeros(1, 4, SIZE[1] // 8, SIZE[0] // 8)  # of models with 9 channels; else it would draw noise for them in between
    expected = theirs(made, strength, image, mask_image=Image.open(mask), masked_image_latents=unused, **sizes)
    assert np.abs(ours(model, strength, image, sampler, mask) - expected).max() <= 1


def test_under_the_black_of_a_mask_the_latents_are_those_of_the_image(
    model: StableDiffusion, image: Path, mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x ← m·x + (1 − m)·x₀ behind the last step: there nothing is left of what the U-Net said."""
    decoded: list[torch.Tensor] = []
    decode = drawing.decode
    monkeypatch.setattr(drawing, "decode", lambda model, latents, device: decoded.append(latents) or decode(model, latents, device))
    ours(model, 0.8, image, "ddim", mask)
    mean, logvar = model.moments(read_pixels(image, SIZE)[None]).chunk(2, dim=1)
    drawn = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(7))
    black = read_mask(mask, SIZE)[None, :, ::8, ::8].expand_as(drawn) == 0
    assert black.any() and not black.all()
    assert torch.equal(decoded[0][black], (drawn * model.scale_factor)[black])
    assert not torch.isclose(decoded[0][~black], (drawn * model.scale_factor)[~black]).any()


def test_at_strength_0_the_image_stays_but_for_the_vae(model: StableDiffusion, image: Path) -> None:
    with torch.no_grad():
        latents = model.moments(read_pixels(image, SIZE)[None]).chunk(2, dim=1)
        drawn = latents[0] + (0.5 * latents[1]).exp() * torch.randn(latents[0].shape, generator=torch.Generator().manual_seed(7))
        expected = ((model.vae.decode(drawn).sample / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0) * 255).round()
    assert np.abs(ours(model, 0.0, image, "ddim") - expected.numpy()).max() <= 1


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "dpm_2_a"])
def test_pictures_of_a_batch_are_those_drawn_alone(sampler: str, model: StableDiffusion, image: Path) -> None:
    of_each = [replace(SETTINGS, sampler=sampler, seed=seed, prompt=prompt) for seed, prompt in ((1, "a cat"), (2, "a (dog:1.4)"), (3, ""))]
    starts = [replace(one, start=ImageStart(read_pixels(image, SIZE), 0.7)) for one in of_each]
    for batch in (of_each, starts):
        together = generate_together(model, batch)
        alone = [generate(model, one) for one in batch]
        assert max(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max() for a, b in zip(together, alone, strict=True)) <= 1


def test_an_image_of_odd_sides_is_drawn_in_whole_latents(tmp_path: Path) -> None:
    Image.new("RGB", (101, 67)).save(tmp_path / "odd.png")
    assert own_size(tmp_path / "odd.png") == (96, 64)
    assert read_pixels(tmp_path / "odd.png", (96, 64)).shape == (3, 64, 96)
