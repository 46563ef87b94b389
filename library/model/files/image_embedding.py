"""Embeddings that AUTOMATIC1111's web UI stores in images: in a text chunk of a PNG, or in the low bits of pixels next to the image."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from library.errors import UserError, coded
from library.parsing.json_text import parse_json
from library.paths.opening import regular

if TYPE_CHECKING:
    from PIL import Image

CHUNK = "sd-ti-embedding"  # base64 of JSON
_LARGEST_HALF = 1 << 21  # bytes of the packed JSON
TENSOR = "TORCHTENSOR"  # marks the numbers of a tensor in that JSON
LARGEST = 1 << 24  # bytes of JSON, far above any embedding
LARGEST_IMAGE = 1 << 24  # pixels; a web UI uses some hundred thousand


def read_image_embedding(path: Path, option: str) -> dict[str, Tensor]:
    """Read the vectors of an image by name (usually `*`), float32; raises UserError, with `option` first, if it has no embedding."""
    from PIL import Image

    try:
        with Image.open(regular(path)) as image:
            if image.width * image.height > LARGEST_IMAGE:
                raise ValueError("is larger than any image with an embedding")
            content = _of_chunk(image) or _of_pixels(np.asarray(image.convert("RGB")))
    except (OSError, ValueError, zlib.error, SyntaxError, RecursionError, Image.DecompressionBombError):
        content = None
    vectors = _vectors(content)
    if not vectors:
        raise UserError(
            coded(
                "LORA-012",
                f"{option} {path}: is an image without a readable embedding (copies that were resized, edited or saved with loss "
                "lose it); use the original image, or the .pt or .safetensors file",
            )
        )
    return vectors


def _of_chunk(image: Image.Image) -> object:
    """Return the content of the text chunk; None if it is missing or damaged."""
    text = getattr(image, "text", {}).get(CHUNK)
    if text is None:
        return None
    try:
        return parse_json(base64.b64decode(text))
    except (binascii.Error, ValueError):
        return None


def _of_pixels(pixels: np.ndarray) -> object:
    """Return the content of the low 4 bits of `pixels` [h, w, 3]; None if there is none.

    Left of the image are the low halves of the zlib bytes, right of it the high halves, each after a column that is black in those bits;
    row by row, channel by channel, each half mixed with `_mask`.
    """
    bright = np.all(pixels > 0, axis=2)
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    if not rows.size:
        return None
    low = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 0x0F
    black = np.flatnonzero((low == 0).all(axis=(0, 2)))
    if black.size < 2:
        return None
    halves = low[:, : black[0]], low[:, black[-1] + 1 :]
    if halves[0].shape != halves[1].shape or not 0 < halves[0].size <= _LARGEST_HALF:
        return None
    mask = _mask(halves[0].size)
    first, second = (half.reshape(-1) ^ mask for half in halves)
    return parse_json(zlib.decompressobj().decompress(((second << 4) | first).tobytes(), LARGEST))


def _mask(count: int) -> np.ndarray:
    """Return the low 4 bits of x mod 255 for `count` numbers x of the generator x ← 1664525·x + 1013904223 mod 2³² (Numerical Recipes) from
    0."""
    numbers = np.empty(count, dtype=np.uint8)
    state = 0
    for place in range(count):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        numbers[place] = state % 255
    return numbers & 0x0F


def _vectors(content: object) -> dict[str, Tensor]:
    """Return the tensors of a web UI's embedding (`string_to_param`) from its JSON."""
    table = content.get("string_to_param") if isinstance(content, Mapping) else None
    vectors = {}
    for name, value in table.items() if isinstance(table, Mapping) else ():
        numbers = value.get(TENSOR) if isinstance(value, Mapping) else None
        try:
            vectors[str(name)] = torch.tensor(numbers, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            return {}
    return vectors
