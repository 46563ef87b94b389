"""The images that samples start from, and the masks of the areas to generate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from library.data.pixels.decode import Decoded, decode
from library.data.scan.image_headers import Unreadable, read_header
from library.errors import UserError, coded, first_line
from library.model.drawing.image_start import ImageStart
from library.options.bounds import PIXELS_OF_A_LATENT

_LARGEST = 1 << 14  # pixels per side, the same limit as for a prompt's size
Size = tuple[int, int]


def inpainting_start(image: Path, mask: Path | None, size: Size) -> ImageStart:
    """Return an image with a mask for an inpainting model: what is white is generated again; without a mask, the whole image."""
    return ImageStart(read_pixels(image, size), 1.0, None if mask is None else read_mask(mask, size))


def own_size(file: Path) -> Size:
    """Return (width, height) to generate if no size is set: that of the image, rounded down to whole latents."""
    try:
        width, height = read_header(file).size
    except Unreadable as fault:
        raise UserError(coded("DATA-001", f"image {file}: {fault}; use another image")) from None
    return _in_latents(width), _in_latents(height)


def _in_latents(side: int) -> int:
    return max(PIXELS_OF_A_LATENT, min(side, _LARGEST) // PIXELS_OF_A_LATENT * PIXELS_OF_A_LATENT)


def read_pixels(file: Path, size: Size) -> Tensor:
    """Read an image as [3,H,W] in −1…1, resized to `size` (width, height); transparent pixels become white."""
    image = _decoded(file, "image").on()
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def read_mask(file: Path, size: Size) -> Tensor:
    """Read a mask as [1,H,W], resized to `size` (width, height): 1 where it is more white than black, 0 elsewhere."""
    image = _decoded(file, "mask").on((0, 0, 0)).convert("L")
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255 >= 0.5).float()[None]


def _decoded(file: Path, what: str) -> Decoded:
    try:
        return decode(file)
    except Unreadable as fault:
        reason = str(fault)
    except (OSError, ValueError, SyntaxError, EOFError) as fault:
        reason = f"cannot be read as an image ({first_line(fault)})"
    raise UserError(coded("DATA-001", f"{what} {file}: {reason}; use another image"))
