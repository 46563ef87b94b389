"""Latents that other programs left beside images (`a.npz`): the names of the files, and the sizes they tell, without their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from library.containers.arrays_file import ArraysFile, open_arrays
from library.data.config.blueprint import Size
from library.options.bounds import PIXELS_OF_A_LATENT
from library.renaming import is_there

LONGEST_SIDE = 1 << 20  # pixels


def prepared_file(image: Path) -> Path:
    """Where finetune/prepare_buckets_latents.py and other programs keep latents: `a.npz` for a.png."""
    return image.with_suffix(".npz")


def mirror_file(file: Path) -> Path:
    """Where they keep those of the mirror image: `a_flip.npz`."""
    return file.with_name(f"{file.stem}_flip.npz")


@dataclass(frozen=True)
class Foreign:
    """What a file of another program says of itself: `size` of the latents in pixels, `image` of the image where it says so."""

    size: Size
    image: Size | None
    mirrored: bool


def read_foreign(file: Path) -> Foreign:
    """Sizes alone, without the numbers. Raises OSError, or ValueError for a file that is damaged or holds no latents."""
    with open_arrays(file) as found:
        names = found.names
        shape = found.shape("arr_0" if "arr_0" in names else "latents")
        image = _size(found) if "original_size" in names else None
    mirrored = "latents_flipped" in names
    if not mirrored and is_there(mirror_file(file)):
        with open_arrays(mirror_file(file)) as found:
            mirrored = found.shape("arr_0" if "arr_0" in found.names else "latents") == shape
    if len(shape) != 3 or shape[0] != 4:
        raise ValueError(f"has the shape {list(shape)}, which is not that of latents")
    return Foreign((shape[2] * PIXELS_OF_A_LATENT, shape[1] * PIXELS_OF_A_LATENT), image, mirrored)


def _size(found: ArraysFile) -> Size | None:
    """(width, height) of the image; None where the file says something else."""
    if found.shape("original_size") != (2,):
        return None
    sides = found.read("original_size")
    if not ((sides > 0) & (sides <= LONGEST_SIDE)).all():
        return None
    return int(sides[0]), int(sides[1])
