"""Loss masks of showings: resized, cropped and flipped with their image, averaged to the size of latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from library.containers.arrays_file import open_arrays
from library.data.batching.buckets import FilledData, Placement
from library.data.pixels.decode import decode
from library.data.pixels.images import brightness, crop, flipped, part_shown, resize
from library.data.scan.records import ImageRecord
from library.errors import UserError, coded, first_line
from library.files import is_image
from library.options.bounds import PIXELS_OF_A_LATENT


class Masks:
    """The masks of all images that have a mask: white (or opaque) is trained, black is not.

    Picklable. With `keep`, masks stay in memory after the first use; this is for cached latents, whose crop never changes.
    """

    def __init__(self, filled: FilledData, keep: bool = False) -> None:
        self.filled, self.keep = filled, keep
        self._in_memory: dict[int, np.ndarray] = {}

    def of(
        self, draws: Sequence[tuple[int, int]], places: Sequence[Placement] | None = None, mirrored: Sequence[bool] | None = None
    ) -> Tensor | None:
        """float32 [B,1,H/8,W/8] in 0…1 of showings (record, seed) of one size; 1 for images without a mask.

        `places` overrides the images' placements, `mirrored` the flips that subset and seed decide. None if no image has a mask. Raises
        UserError with the name of an unreadable file.
        """
        if not any(self.has(record) for record, _ in draws):
            return None
        masks = []
        for number, (record, seed) in enumerate(draws):
            mirror = flipped(self.filled.records[record].subset, seed) if mirrored is None else mirrored[number]
            mask = self._mask(record, seed, self.filled.placements[record] if places is None else places[number])
            masks.append(mask[:, ::-1] if mirror else mask)
        return torch.from_numpy(np.stack(masks)[:, None])

    def has(self, record: int) -> bool:
        """Whether this image has a mask: a file, or its alpha channel."""
        image = self.filled.records[record]
        return image.mask is not None or image.subset.alpha_mask

    def _mask(self, index: int, seed: int, placement: Placement) -> np.ndarray:
        """float32 [H/8,W/8], not mirrored."""
        record = self.filled.records[index]
        if not self.has(index):
            return np.ones((placement.bucket[1] // PIXELS_OF_A_LATENT, placement.bucket[0] // PIXELS_OF_A_LATENT), dtype=np.float32)
        own = placement == self.filled.placements[index]
        mask = self._in_memory.get(index) if own else None
        if mask is None:
            resized, corner = part_shown(record, placement, seed)
            if record.mask is None and not is_image(record.path):
                mask = _averaged(_stored_opacity(record.path, placement.bucket))
            else:
                pixels = _opacity(record.path) if record.mask is None else brightness(record.mask, resized)
                mask = _averaged(crop(resize(pixels, resized, record.subset.resize_interpolation), placement.bucket, corner))
            if self.keep and own:
                self._in_memory[index] = mask
        return mask


def opacity_of(record: ImageRecord, placement: Placement) -> np.ndarray:
    """float32 [H,W] in 0…1: opacity of the trained part of an image. Raises UserError for an unreadable file."""
    resized, corner = part_shown(record, placement, None)
    pixels = crop(resize(_opacity(record.path), resized, record.subset.resize_interpolation), placement.bucket, corner)
    mask: np.ndarray = pixels.astype(np.float32) / np.float32(255)
    return mask


def _stored_opacity(latents: Path, bucket: tuple[int, int]) -> np.ndarray:
    """uint8 [H,W] of the mask that `prepare_buckets_latents.py --alpha_mask` stored with latents of a missing image; else all 255."""
    try:
        with open_arrays(latents) as arrays:
            fits = "alpha_mask" in arrays.names and arrays.shape("alpha_mask") == (bucket[1], bucket[0])
            mask = arrays.read("alpha_mask") if fits else None
    except (OSError, ValueError) as fault:
        raise UserError(coded("DATA-015", f"latents {latents}: cannot be read ({fault}); prepare them again, or delete the file")) from None
    if mask is None:
        return np.full((bucket[1], bucket[0]), 255, dtype=np.uint8)
    opacity: np.ndarray = np.rint(np.clip(np.nan_to_num(mask), 0, 1) * 255).astype(np.uint8)
    return opacity


def _opacity(path: Path) -> np.ndarray:
    """uint8 [H,W]: the alpha channel, 255 if there is none."""
    try:
        image = decode(path)
        return np.full(image.rgb.size[::-1], 255, dtype=np.uint8) if image.alpha is None else np.asarray(image.alpha)
    except Exception as fault:
        raise UserError(coded("DATA-001", f"image {path}: cannot be read ({first_line(fault)}); remove or replace it")) from None


def _averaged(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H,W] to float32 [H/8,W/8] in 0…1, the mean of each 8×8 cell."""
    height, width = pixels.shape
    cells = pixels.reshape(height // PIXELS_OF_A_LATENT, PIXELS_OF_A_LATENT, width // PIXELS_OF_A_LATENT, PIXELS_OF_A_LATENT)
    means: np.ndarray = cells.mean(axis=(1, 3), dtype=np.float64)
    return (means / 255.0).astype(np.float32)
