"""Latents that other programs left beside images (`a.npz`): the names of the files, and the sizes they tell, without their numbers."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from library.data.config.blueprint import Size
from library.paths.opening import regular
from library.renaming import is_there

DAMAGE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)  # what reading a damaged file raises, besides OSError


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
    """Sizes alone, without the numbers. Raises OSError, ValueError, KeyError or zipfile.BadZipFile."""
    with np.load(regular(file)) as found:
        names = found.files
        shape = _shape(found.zip, "arr_0" if "arr_0" in names else "latents")
        image: list[int] = found["original_size"].tolist() if "original_size" in names else []
    mirrored = "latents_flipped" in names
    if not mirrored and is_there(mirror_file(file)):
        with np.load(regular(mirror_file(file))) as found:
            mirrored = _shape(found.zip, "arr_0" if "arr_0" in found.files else "latents") == shape
    if len(shape) != 3 or shape[0] != 4:
        raise ValueError(f"holds {list(shape)}, which are no latents")
    return Foreign((shape[2] * 8, shape[1] * 8), (image[0], image[1]) if len(image) == 2 else None, mirrored)


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(member)[0]
