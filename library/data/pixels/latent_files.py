"""Latents in `.npz` files next to the images: content, binding to their source, and files of other programs.

The layout is shared with similar programs: `latents` [4,h,w] unscaled, `original_size` (width, height) and `crop_ltrb` of the image,
`latents_flipped` of its mirror image. Ours add `log_variance` and `log_variance_flipped`, and a binding to the source as JSON in the
archive's comment, which other programs ignore.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from library.containers.arrays_file import open_arrays
from library.data.scan.latent_headers import mirror_file
from library.files import atomic_write
from library.parsing.json_text import parse_json
from library.paths.opening import open_file

if TYPE_CHECKING:
    from library.data.batching.buckets import Placement
    from library.data.config.blueprint import Size

FORMAT = 1
PIXELS = 2  # increase it when library.data.pixels.images changes the pixels it returns
_TAIL = 4096  # bytes; a binding has less than 1 KiB
_FRESH = 3 * 10**9  # ns; some file systems store times in steps of 2 s
_OWN = re.compile(r"(.+)\.\d+x\d+\.npz")

Stat = tuple[int, int, int]  # size, time of the last change of content, time of the last change of the directory entry (both in ns)


@dataclass(frozen=True)
class Binding:
    """What latents were encoded from. `stat` belongs to the image when it was hashed, None if it is unreliable."""

    image: str  # SHA-256 of the image file
    stat: Stat | None
    vae: str  # fingerprint of the VAE's encoder
    precision: str  # float32, float16 or bfloat16: dtype of the encoder
    bucket: Size
    resized: Size
    background: tuple[int, int, int]  # behind transparent pixels
    flip: bool  # the file contains the mirror image too
    distribution: bool  # the file contains the log variance too
    pixels: int = PIXELS
    format: int = FORMAT
    interpolation: str = ""  # resize_interpolation, "" for the default; only written if it differs, so that older files still match


def cache_file(image: Path, bucket: Size) -> Path:
    """Cache file for `image` at `bucket`: `a.png.512x768.npz`, so that a.png and a.jpg, and different sizes, do not collide."""
    return image.with_name(f"{image.name}.{bucket[0]}x{bucket[1]}.npz")


def image_of(file: Path) -> Path | None:
    """The image that a cache file with this name belongs to, at any size; None for other names."""
    match = _OWN.fullmatch(file.name)
    return file.with_name(match[1]) if match else None


def stat_of(path: Path) -> Stat:
    """Size and times of a file. POSIX programs cannot set the last one (on Windows it is the time of creation)."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def reliable(stat: Stat) -> Stat | None:
    """`stat`, or None if the file changed so recently that another change could leave it equal."""
    return stat if time.time_ns() - max(stat[1:]) > _FRESH else None


def crop_ltrb(size: Size, placement: Placement) -> tuple[int, int, int, int]:
    """The trained part of an image of `size`: left, top, right, bottom in pixels of the original."""
    (width, height), resized, bucket = size, placement.resized, placement.bucket
    left, top = ((whole - side) // 2 for whole, side in zip(resized, bucket, strict=True))
    across, down = width / resized[0], height / resized[1]
    return int(left * across), int(top * down), int((left + bucket[0]) * across), int((top + bucket[1]) * down)


def write_latents(file: Path, arrays: dict[str, np.ndarray], binding: Binding) -> None:
    """Write the file atomically. Raises OSError."""
    values = {name: value for name, value in dataclasses.asdict(binding).items() if name != "interpolation" or value}
    said = json.dumps(values).encode("ascii")
    with atomic_write(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
        archive.comment = said


def moments_arrays(moments: np.ndarray, mirrored: np.ndarray | None, size: Size, placement: Placement) -> dict[str, np.ndarray]:
    """Arrays of a cache file from mean [4,h,w], or mean and log variance [8,h,w], of an image and its mirror image."""
    arrays = {"latents": moments[:4], "original_size": np.array(size), "crop_ltrb": np.array(crop_ltrb(size, placement))}
    if mirrored is not None:
        arrays["latents_flipped"] = mirrored[:4]
    if len(moments) == 8:
        arrays["log_variance"] = moments[4:]
        if mirrored is not None:
            arrays["log_variance_flipped"] = mirrored[4:]
    return arrays


def read_binding(file: Path) -> Binding | None:
    """The binding, from the end of the file; None for a file of another program. Raises OSError, ValueError (damaged)."""
    with open_file(file) as opened:
        length = opened.seek(0, io.SEEK_END)
        opened.seek(max(0, length - _TAIL))
        tail = opened.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end - 22 != int.from_bytes(tail[end + 20 : end + 22], "little"):
        raise ValueError("is truncated")
    comment = tail[end + 22 :]
    if not comment.startswith(b"{"):
        return None
    try:
        said = parse_json(comment)
        if said.get("format") != FORMAT:
            return None
        lists = {name: tuple(value) for name, value in said.items() if isinstance(value, list)}
        return Binding(**(said | lists))
    except TypeError as fault:
        raise ValueError("has another kind of binding") from fault


def read_latents(file: Path, mirrored: bool = False) -> np.ndarray:
    """Mean and log variance float32 [8,h,w], or [4,h,w] if the file has only a mean or sample; `mirrored`: of the mirror image.

    Raises OSError, or ValueError for a damaged file or one without latents.
    """
    with open_arrays(file) as arrays:
        ending = "_flipped" if mirrored else ""
        if mirrored and "latents_flipped" not in arrays.names:
            return read_latents(mirror_file(file))
        name = "arr_0" if "arr_0" in arrays.names and not mirrored else f"latents{ending}"
        parts = [arrays.read(name)] + [arrays.read(key) for key in (f"log_variance{ending}",) if key in arrays.names]
    for part in parts:
        if part.shape != parts[0].shape or part.ndim != 3 or part.shape[0] != 4 or part.dtype.kind != "f":
            raise ValueError(f"contains {name} of {part.dtype} {list(part.shape)}, which is not latents")
    return np.concatenate(parts).astype(np.float32, copy=False)
