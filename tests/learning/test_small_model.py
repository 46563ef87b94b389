"""The shipped small model: small, of Stable Diffusion v1's layout for other programs, and able to draw what it was taught."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from examples.small_model.scenes import CaptionedScene, random_scene
from library.model.diffusers_folder import save_diffusers
from library.model.drawing.generate import GenerateSettings, generate
from library.model.load import load
from tests.judge import Seen, judge
from tests.learning.drawing import GUIDANCE, SIDE, STEPS, draw, draw_each, with_lora
from tests.oracles import our_image, pipeline_image

PROMPT = "a green cross on an orange background"
MEBIBYTE = 2**20


def as_numbers(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.int16)


def test_it_is_at_most_16_mib(small_model: Path):
    assert small_model.stat().st_size <= 16 * MEBIBYTE


@cache
def _drawn(model_file: Path, count: int) -> list[tuple[Seen, CaptionedScene]]:
    """What the judge sees in the drawings of so many random captions, and what they should show."""
    rng = random.Random(11)
    scenes = [random_scene(rng) for _ in range(count)]
    pictures = draw_each(load(model_file), [scene.caption for scene in scenes], range(count))
    return [(judge(picture), scene) for picture, scene in zip(pictures, scenes, strict=True)]


def _share_right(model_file: Path, count: int, right: Callable[[Seen, CaptionedScene], bool]) -> float:
    return float(np.mean([right(seen, scene) for seen, scene in _drawn(model_file, count)]))


def told_right(model_file: Path, count: int) -> float:
    """In which share of random captions the drawn picture shows colour, shape and background of the caption."""
    return _share_right(model_file, count, lambda told, scene: told.shows(scene.colour, scene.shape, scene.background))


def colours_right(model_file: Path, count: int) -> float:
    """As `told_right`, whatever the shape."""
    return _share_right(model_file, count, lambda told, scene: (told.colour, told.background) == (scene.colour, scene.background))


def test_it_draws_what_the_caption_says(small_model: Path):
    assert colours_right(small_model, 40) >= 0.95
    assert told_right(small_model, 40) >= 0.9


@pytest.mark.slow
def test_it_draws_what_the_caption_says_95_times_in_100(small_model: Path):
    assert told_right(small_model, 200) >= 0.95


def test_many_seeds_drawn_at_once_are_the_pictures_drawn_one_by_one(small_model: Path):
    model = with_lora(small_model, None)
    for seed, picture in zip((3, 8), draw(model, PROMPT, (3, 8)), strict=True):
        alone = generate(model, GenerateSettings(PROMPT, "", SIDE, SIDE, STEPS, GUIDANCE, seed))
        assert np.abs(as_numbers(alone) - as_numbers(picture)).max() <= 2  # levels of 255: sums in another order


def test_diffusers_loads_the_file_and_draws_the_same_picture(small_model: Path, tmp_path: Path):
    """Within 2 of 255 levels: rounding in float32 over the sampler's steps."""
    from diffusers import StableDiffusionPipeline

    ours = load(small_model)
    save_diffusers(ours, tmp_path / "config")
    for weights in (tmp_path / "config").rglob("*.safetensors"):
        weights.unlink()  # the configuration is given, the weights come from the file
    pipeline = StableDiffusionPipeline.from_single_file(
        small_model, config=str(tmp_path / "config"), local_files_only=True, torch_dtype=torch.float32
    )
    ids = ours.tokenizer(PROMPT)[0]
    assert pipeline.tokenizer(PROMPT, padding="max_length").input_ids == ids[0].tolist()
    assert np.abs(our_image(ours, PROMPT) - pipeline_image(pipeline, PROMPT)).max() <= 2
