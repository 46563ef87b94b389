"""Latents of other programs next to images (`a.npz`): file names and sizes, without loading the values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from library.containers.arrays_file import ArraysFile, open_arrays
from library.data.config.blueprint import Size
from library.options.bounds import PIXELS_OF_A_LATENT
from library.renaming import is_there

LONGEST_SIDE = 1 << 20  # pixels


def prepared_file(image: Path) -> Path:
    """Where finetune/prepare_buckets_latents.py and other programs store latents: `a.npz` for a.png."""
    return image.with_suffix(".npz")


def mirror_file(file: Path) -> Path:
    """Where they store the latents of the mirror image: `a_flip.npz`."""
    return file.with_name(f"{file.stem}_flip.npz")


@dataclass(frozen=True)
class Foreign:
    """Header of another program's file: `size` of the latents in pixels, `image` size if the file contains it."""

    size: Size
    image: Size | None
    mirrored: bool


def read_foreign(file: Path) -> Foreign:
    """Read the sizes only. Raises OSError, or ValueError for a damaged file or one without latents."""
    with open_arrays(file) as arrays:
        names = arrays.names
        shape = arrays.shape("arr_0" if "arr_0" in names else "latents")
        image = _size(arrays) if "original_size" in names else None
    mirrored = "latents_flipped" in names
    if not mirrored and is_there(mirror_file(file)):
        with open_arrays(mirror_file(file)) as arrays:
            mirrored = arrays.shape("arr_0" if "arr_0" in arrays.names else "latents") == shape
    if len(shape) != 3 or shape[0] != 4:
        raise ValueError(f"has the shape {list(shape)}, which is not that of latents")
    return Foreign((shape[2] * PIXELS_OF_A_LATENT, shape[1] * PIXELS_OF_A_LATENT), image, mirrored)


def _size(arrays: ArraysFile) -> Size | None:
    """(width, height) of the image; None if the file has an invalid value."""
    if arrays.shape("original_size") != (2,):
        return None
    sides = arrays.read("original_size")
    if not ((sides > 0) & (sides <= LONGEST_SIDE)).all():
        return None
    return int(sides[0]), int(sides[1])
