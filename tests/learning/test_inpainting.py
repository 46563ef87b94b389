"""The shipped small inpainting model fills in what a mask hides as it is asked, and the model that it was made from does not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gen_img
from examples.small_model.holes import Hole, hole, hole_in, write_masked_subject
from examples.small_model.make_inpainting import widened
from examples.small_model.scenes import COLOURS, TEAL, Scene
from examples.subject import IDENTIFIER
from library.model.bundle import StableDiffusion, moments
from library.model.diffusers_folder import save_diffusers
from library.model.files.facts import inspect
from library.model.load import load
from tests.learning import lessons
from tests.learning.drawing import GUIDANCE, SIDE, STEPS
from tests.learning.filling import OUTSIDE, changed_outside, fill, has_colour, is_filled, share_filled
from tests.scripts.running import run_in_process

ROOT = Path(__file__).parents[2]
MEBIBYTE = 2**20
HOLES = tuple(hole(seed) for seed in range(20))
FEW = HOLES[:5]


@pytest.fixture(scope="module")
def inpainting_model() -> Path:
    """The model that the project ships."""
    return ROOT / "examples" / "small_model" / "small_sd_inpainting.safetensors"


@pytest.fixture(scope="module")
def trained(inpainting_model: Path) -> StableDiffusion:
    return load(inpainting_model)


@pytest.fixture(scope="module")
def untrained(small_model: Path) -> StableDiffusion:
    """What the recipe begins with: the small model with five more input channels whose weights are 0."""
    return widened(load(small_model))


def test_it_is_an_inpainting_model_of_at_most_16_mib(inpainting_model: Path) -> None:
    assert inspect(inpainting_model).inpaints and inpainting_model.stat().st_size <= 16 * MEBIBYTE


def test_the_judge_wants_the_asked_colour_inside_and_nothing_changed_outside() -> None:
    for one in HOLES:
        right = Image.fromarray(np.where(one.shape[..., None], COLOURS[one.colour], np.asarray(one.picture)).astype(np.uint8))
        assert is_filled(right, one) and not is_filled(one.picture, one)
        beside = np.asarray(right).copy()
        beside[:8], beside[-8:] = 255 - beside[:8], 255 - beside[-8:]  # two rows of latents at the edges
        assert has_colour(Image.fromarray(beside), one) and not is_filled(Image.fromarray(beside), one)


def test_the_autoencoder_alone_changes_a_500th_of_what_is_outside(trained: StableDiffusion) -> None:
    """The floor of the judge's limit, which is 25 times as much."""
    pixels = torch.stack([torch.from_numpy(np.asarray(one.picture, np.float32)).permute(2, 0, 1) / 127.5 - 1 for one in HOLES])
    with torch.no_grad():
        decoded = trained.vae.decode(moments(trained.vae, pixels).chunk(2, dim=1)[0]).sample
    levels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert max(changed_outside(Image.fromarray(picture), one) for picture, one in zip(levels, HOLES, strict=True)) <= OUTSIDE / 25


def test_it_fills_holes_with_the_asked_colour(trained: StableDiffusion, untrained: StableDiffusion) -> None:
    assert share_filled(fill(trained, FEW, steps=10), FEW) >= 0.8
    assert share_filled(fill(untrained, FEW, steps=10), FEW) <= 0.2


@pytest.mark.slow
def test_it_fills_16_of_20_holes_and_untrained_at_most_4(trained: StableDiffusion, untrained: StableDiffusion) -> None:
    assert share_filled(fill(trained, HOLES), HOLES) >= 0.8
    assert share_filled(fill(untrained, HOLES), HOLES) <= 0.2


@pytest.mark.slow
def test_gen_img_fills_them_as_well(inpainting_model: Path, tmp_path: Path) -> None:
    """As a user does it: a picture, a mask and a prompt on the command line."""
    pictures = []
    for number, one in enumerate(FEW):
        image, mask, out = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png", tmp_path / f"out{number}"
        one.picture.save(image)
        one.mask.save(mask)
        asked = ["--prompt", one.prompt, "--image_path", image, "--mask_path", mask, "--steps", STEPS, "--scale", GUIDANCE]
        assert run_in_process(gen_img.main, "--ckpt", inpainting_model, *asked, "--seed", number, "--outdir", out) == 0
        (file,) = out.glob("*.png")
        with Image.open(file) as picture:
            pictures.append(picture.convert("RGB"))
    assert share_filled(pictures, FEW) >= 0.8


def teal_star(seed: int) -> Hole:
    """A plain star of another colour to be made the subject."""
    rng = random.Random(f"teal star {seed}")
    ground, shown = rng.sample(sorted(set(COLOURS) - {"green", "blue"}), 2)
    radius = rng.uniform(0.24, 0.34)
    scene = Scene("star", TEAL, COLOURS[ground], (rng.uniform(radius, 1 - radius), rng.uniform(radius, 1 - radius)), radius)
    return hole_in(scene, f"a {IDENTIFIER} on {'an' if ground == 'orange' else 'a'} {ground} background", "teal", shown)


def by_diffusers(folder: Path, lora: Path | None, holes: Sequence[Hole]) -> list[Image.Image]:
    """What diffusers' inpainting pipeline fills in, with the LoRA loaded by its own means."""
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

    pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipeline.set_progress_bar_config(disable=True)
    if lora is not None:
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pictures = []
    for seed, one in enumerate(holes):
        asked = {"width": SIDE, "height": SIDE, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
        drawn = pipeline(one.prompt, image=one.picture, mask_image=one.mask, generator=torch.Generator().manual_seed(seed), **asked)
        pictures.append(drawn.images[0])
    return pictures


@pytest.mark.slow
def test_a_lora_trained_on_it_fills_in_its_subject_in_diffusers(inpainting_model: Path, tmp_path: Path) -> None:
    """The stars under masks of their own; the pipeline without the LoRA is the control."""
    script = replace(lessons.LORA, options=f"{lessons.LORA.options} --train_inpainting")
    lora = lessons.teach(inpainting_model, script, write_masked_subject, tmp_path / "lesson")
    save_diffusers(load(inpainting_model), tmp_path / "folder")
    holes = [teal_star(seed) for seed in range(20)]
    plain, taught = (by_diffusers(tmp_path / "folder", file, holes) for file in (None, lora))
    assert share_filled(plain, holes) <= 0.2
    assert share_filled(taught, holes) >= 0.8
    assert not any(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in zip(plain, taught, strict=True))
