"""Latents in `.npz` files beside the images: what is written, what it is bound to, and how files of other programs are read.

The layout is the one that programs of this kind share: `latents` [4,h,w] unscaled, `original_size` (width, height) and `crop_ltrb` of the
image, `latents_flipped` of its mirror image. Ours add `log_variance` and `log_variance_flipped`, and what the file is bound to as JSON in
the archive's comment, which others pass over.
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
PIXELS = 2  # raise it when library.data.pixels.images reads, scales or crops images to other pixels than before
_TAIL = 4096  # bytes; a binding is under 1 KiB
_FRESH = 3 * 10**9  # ns; some file systems date changes to 2 s only
_OWN = re.compile(r"(.+)\.\d+x\d+\.npz")

Stat = tuple[int, int, int]  # size, time of the last change and of the last change of the file's entry (ns)


@dataclass(frozen=True)
class Binding:
    """What latents were made from. `stat` is that of the image when its hash was taken, None when it may not be relied on."""

    image: str  # SHA-256 of the image file
    stat: Stat | None
    vae: str  # fingerprint of the VAE's encoder
    precision: str  # float32, float16 or bfloat16: what the encoder computed in
    bucket: Size
    resized: Size
    background: tuple[int, int, int]  # behind transparent pixels
    flip: bool  # the mirror image is in the file too
    distribution: bool  # the log variance is in the file too
    pixels: int = PIXELS
    format: int = FORMAT
    interpolation: str = ""  # resize_interpolation, "" for the usual way; written where it is another one, so that older files fit


def cache_file(image: Path, bucket: Size) -> Path:
    """Where the latents of `image` at `bucket` are kept: `a.png.512x768.npz`, so that a.png and a.jpg, and two sizes, are strangers."""
    return image.with_name(f"{image.name}.{bucket[0]}x{bucket[1]}.npz")


def image_of(file: Path) -> Path | None:
    """The image whose cache file, at whatever size, has this name; None for other names."""
    found = _OWN.fullmatch(file.name)
    return file.with_name(found[1]) if found else None


def stat_of(path: Path) -> Stat:
    """Size and times of a file. The last one cannot be set by programs on POSIX systems (on Windows it is the time of creation)."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def reliable(stat: Stat) -> Stat | None:
    """`stat`, or None while the file is so fresh that another change could leave it as it is."""
    return stat if time.time_ns() - max(stat[1:]) > _FRESH else None


def crop_ltrb(size: Size, placement: Placement) -> tuple[int, int, int, int]:
    """The part of an image of `size` that is trained: left, top, right, bottom in its own pixels."""
    (width, height), resized, bucket = size, placement.resized, placement.bucket
    left, top = ((whole - side) // 2 for whole, side in zip(resized, bucket, strict=True))
    across, down = width / resized[0], height / resized[1]
    return int(left * across), int(top * down), int((left + bucket[0]) * across), int((top + bucket[1]) * down)


def write_latents(file: Path, arrays: dict[str, np.ndarray], binding: Binding) -> None:
    """Write the file whole or not at all. Raises OSError."""
    values = {name: value for name, value in dataclasses.asdict(binding).items() if name != "interpolation" or value}
    said = json.dumps(values).encode("ascii")
    with atomic_write(file) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
        archive.comment = said


def moments_arrays(moments: np.ndarray, mirrored: np.ndarray | None, size: Size, placement: Placement) -> dict[str, np.ndarray]:
    """The arrays of a file from mean [4,h,w], or mean and log variance [8,h,w], of an image and of its mirror image."""
    arrays = {"latents": moments[:4], "original_size": np.array(size), "crop_ltrb": np.array(crop_ltrb(size, placement))}
    if mirrored is not None:
        arrays["latents_flipped"] = mirrored[:4]
    if len(moments) == 8:
        arrays["log_variance"] = moments[4:]
        if mirrored is not None:
            arrays["log_variance_flipped"] = mirrored[4:]
    return arrays


def read_binding(file: Path) -> Binding | None:
    """What the file is bound to, read from its end alone; None for a file of another program. Raises OSError, ValueError (damaged)."""
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
    """Mean and log variance float32 [8,h,w], or [4,h,w] where the file holds a mean or a sample alone; of the mirror image if asked.

    Raises OSError, ValueError (damaged, or no latents) for what cannot be read.
    """
    with open_arrays(file) as found:
        ending = "_flipped" if mirrored else ""
        if mirrored and "latents_flipped" not in found.names:
            return read_latents(mirror_file(file))
        name = "arr_0" if "arr_0" in found.names and not mirrored else f"latents{ending}"
        parts = [found.read(name)] + [found.read(key) for key in (f"log_variance{ending}",) if key in found.names]
    for part in parts:
        if part.shape != parts[0].shape or part.ndim != 3 or part.shape[0] != 4 or part.dtype.kind != "f":
            raise ValueError(f"contains {name} of {part.dtype} {list(part.shape)}, which is not latents")
    return np.concatenate(parts).astype(np.float32, copy=False)
