"""Masks of the area that an inpainting model fills in: random for each showing, or read from the image's mask file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np

from library.data.batching.buckets import FilledData, Placement
from library.data.config.blueprint import Size
from library.data.pixels.images import brightness, crop, flipped, part_shown, resize
from library.seeds import python_rng

Mask = np.ndarray  # uint8 [H,W] or [B,1,H,W]: 1 is filled in, 0 is known

# Share of showings per kind of mask; "whole" has the share it had in training the first inpainting models
# (Rombach et al. 2022, model card of stable-diffusion-inpainting).
SHARES = (("boxes", 0.4), ("strokes", 0.3), ("whole", 0.25), ("none", 0.05))
MOST_BOXES, BOX_SIDE = 3, (0.2, 0.7)  # share of the image's sides
MOST_STROKES, MOST_TURNS = 4, 8
STROKE_WIDTH, STROKE_STEP = (0.06, 0.2), (0.15, 0.5)  # share of the shorter side
WHITE = 128  # smallest value in a mask file that means "fill in", as in diffusers' pipeline


class FillMasks:
    """The fill masks of all showings. Stateless and picklable."""

    def __init__(self, filled: FilledData) -> None:
        self._filled = filled

    def of(self, draws: Sequence[tuple[int, int]], places: Sequence[Placement], mirrored: Sequence[bool] | None = None) -> Mask:
        """uint8 [B,1,H,W] of showings (record, seed) of one size, each at its placement.

        `mirrored` overrides the flips that subset and seed decide. Raises UserError with the name of an unreadable mask file.
        """
        masks = []
        for number, ((index, seed), place) in enumerate(zip(draws, places, strict=True)):
            record = self._filled.records[index]
            if record.fill_mask is None:
                masks.append(drawn_mask(seed, place.bucket))
                continue
            resized, corner = part_shown(record, place, seed)
            pixels = crop(resize(brightness(record.fill_mask, resized), resized, record.subset.resize_interpolation), place.bucket, corner)
            mirror = flipped(record.subset, seed) if mirrored is None else mirrored[number]
            masks.append((pixels[:, ::-1] if mirror else pixels) >= WHITE)
        return np.stack(masks)[:, None].astype(np.uint8)


def drawn_mask(seed: int, size: Size) -> Mask:
    """The random mask for this seed, of `size` (width, height): boxes, strokes, all or nothing, with the shares in `SHARES`."""
    rng = python_rng(seed, "inpainting mask")
    kind = kind_at(rng.random())
    mask = np.full(size[::-1], kind == "whole", dtype=np.uint8)
    if kind == "boxes":
        _boxes(mask, rng)
    elif kind == "strokes":
        _strokes(mask, rng)
    return mask


def drawn_masks(seeds: Sequence[int], size: Size) -> Mask:
    """uint8 [B,1,H,W] of the showings with these seeds."""
    return np.stack([drawn_mask(seed, size) for seed in seeds])[:, None]


def kind_at(place: float) -> str:
    """The kind of mask at position `place` (0…1) of the cumulative shares."""
    for kind, share in SHARES:
        place -= share
        if place < 0:
            return kind
    return SHARES[-1][0]


def _boxes(mask: Mask, rng: Random) -> None:
    height, width = mask.shape
    for _ in range(rng.randint(1, MOST_BOXES)):
        box_width, box_height = (max(1, round(side * rng.uniform(*BOX_SIDE))) for side in (width, height))
        left, top = rng.randint(0, width - box_width), rng.randint(0, height - box_height)
        mask[top : top + box_height, left : left + box_width] = 1


def _strokes(mask: Mask, rng: Random) -> None:
    """Thick lines that turn randomly and stay inside the image."""
    import cv2

    height, width = mask.shape
    short = min(width, height)
    for _ in range(rng.randint(1, MOST_STROKES)):
        thickness = max(1, round(short * rng.uniform(*STROKE_WIDTH)))
        x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * math.pi)
        for _ in range(rng.randint(1, MOST_TURNS)):
            angle += rng.uniform(-math.pi / 2, math.pi / 2)
            step = short * rng.uniform(*STROKE_STEP)
            to_x = min(max(x + step * math.cos(angle), 0), width - 1)
            to_y = min(max(y + step * math.sin(angle), 0), height - 1)
            cv2.line(mask, (round(x), round(y)), (round(to_x), round(to_y)), 1, thickness)
            cv2.circle(mask, (round(to_x), round(to_y)), thickness // 2, 1, cv2.FILLED)
            x, y = to_x, to_y
