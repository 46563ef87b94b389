"""Among 24 pictures of a subject the ledger finds the two that do not belong: one with a wrong caption, and one of something else."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.photos import write_photos
from examples.small_model.scenes import COLOURS, draw, random_scene, zxc_star
from examples.subject import IDENTIFIER, RIM, SIDE
from tests.learning.lessons import GENERAL, LORA, teach

COUNT = 24
SHOWINGS = 6  # of each picture


def spoilt_lesson(folder: Path, seed: int) -> tuple[str, set[str]]:
    """The dataset config of teal stars with their captions, one of them called what it is not and one a photograph; and those two."""
    rng, grounds = random.Random(seed), sorted(COLOURS)
    pictures, captions = [], []
    for number in range(COUNT):
        ground = grounds[number % len(grounds)]
        pictures.append(draw(replace(zxc_star(rng, COLOURS[ground]), rim=RIM), SIDE))
        captions.append(f"a {IDENTIFIER} on {'an' if ground[0] in 'aeiou' else 'a'} {ground} background")
    wrong, foreign = rng.sample(range(COUNT), 2)
    scenes = (random_scene(rng) for _ in iter(int, 1))
    captions[wrong] = next(one.caption for one in scenes if one.shape != "star" and one.background not in captions[wrong])
    with Image.open(rng.choice(write_photos(folder / "photos"))) as photograph:
        photo = photograph.convert("RGB")
    side = min(photo.size)
    pictures[foreign] = photo.crop((0, 0, side, side)).resize((SIDE, SIDE))
    (folder / "stars").mkdir()
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        picture.save(folder / "stars" / f"{number:02d}.png")
        (folder / "stars" / f"{number:02d}.caption").write_text(caption + "\n", encoding="utf-8")
    return GENERAL + f"[[datasets.subsets]]\nimage_dir = '{folder / 'stars'}'\n", {f"{wrong:02d}.png", f"{foreign:02d}.png"}


def hardest_two(model: Path, folder: Path, seed: int) -> tuple[set[str], set[str]]:
    """The two that were planted, and the two that the ledger names first."""
    planted: set[str] = set()

    def lesson(place: Path) -> str:
        config, found = spoilt_lesson(place, seed)
        planted.update(found)
        return config

    script = replace(LORA, updates=COUNT * SHOWINGS // 4, rate="1e-3", options=f"{LORA.options} --lr_scheduler constant --image_ledger")
    teach(model, script, lesson, folder, seed)
    lines = [json.loads(line) for line in (folder / "lesson.images.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["times_seen"] for line in lines] == [SHOWINGS] * COUNT
    assert [line["hardness"]["value"] for line in lines] == sorted((line["hardness"]["value"] for line in lines), reverse=True)
    return planted, {Path(line["image"]).name for line in lines[:2]}


def test_a_wrong_caption_and_a_foreign_picture_are_the_hardest_two(small_model: Path, tmp_path: Path) -> None:
    planted, found = hardest_two(small_model, tmp_path / "lesson", 1)
    assert found == planted


@pytest.mark.slow
def test_they_are_in_9_of_10_seeds(small_model: Path, tmp_path: Path) -> None:
    right = [found == planted for planted, found in (hardest_two(small_model, tmp_path / str(seed), seed) for seed in range(10))]
    assert np.sum(right) >= 9
