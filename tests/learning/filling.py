"""Fills holes in pictures as their prompts ask, and judges that: the asked colour inside, nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from examples.small_model.holes import Hole
from library.model.bundle import StableDiffusion
from library.model.drawing.generate import GenerateSettings, generate_together
from library.model.drawing.image_start import ImageStart
from tests.judge import changed, named
from tests.learning.drawing import GUIDANCE, SIDE, STEPS

MOST = 0.5  # share of the shape that has to be of the asked colour
# Share of the pixels outside the mask that may be of another colour afterwards; nothing is pasted back over the picture. The autoencoder
# alone changes 0.2 % (a test holds it). The U-Net is told of a mask in latents of 8 pixels, and of these pictures one such row around a
# hole is a third: the limit leaves it a narrow seam, and no part of a shape beside the hole.
OUTSIDE = 0.05


def start(one: Hole) -> ImageStart:
    """What `gen_img.py --image_path --mask_path` begins with."""
    pixels = torch.from_numpy(np.asarray(one.picture, np.float32)).permute(2, 0, 1) / 127.5 - 1
    return ImageStart(pixels, 1.0, torch.from_numpy(~one.outside).float()[None])


def fill(model: StableDiffusion, holes: Sequence[Hole], steps: int = STEPS) -> list[Image.Image]:
    """Each picture filled in from its number as the seed, all at once."""
    batch = [GenerateSettings(one.prompt, "", SIDE, SIDE, steps, GUIDANCE, number, start=start(one)) for number, one in enumerate(holes)]
    return generate_together(model, batch)


def has_colour(picture: Image.Image, one: Hole) -> bool:
    """Whether most of the shape is of the asked colour."""
    return bool(named(picture, one.colour)[one.shape].mean() > MOST)


def changed_outside(picture: Image.Image, one: Hole) -> float:
    """Share of the pixels outside the mask that are of another colour than before."""
    return float(changed(picture, one.picture)[one.outside].mean())


def is_filled(picture: Image.Image, one: Hole) -> bool:
    """The asked colour inside, and what is outside as it was."""
    return has_colour(picture, one) and changed_outside(picture, one) <= OUTSIDE


def share_filled(pictures: Sequence[Image.Image], holes: Sequence[Hole]) -> float:
    """In which share of the pictures the hole is filled rightly."""
    return sum(is_filled(*both) for both in zip(pictures, holes, strict=True)) / len(holes)
