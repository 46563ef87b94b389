"""The images that pictures begin with, and the masks that say where they are drawn anew."""

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

_LARGEST = 1 << 14  # pixels a side, as of a prompt's
Size = tuple[int, int]


def inpainting_start(image: Path, mask: Path | None, size: Size) -> ImageStart:
    """An image with a mask for an inpainting model, all of what is white drawn anew; without a mask that is the whole."""
    return ImageStart(read_pixels(image, size), 1.0, None if mask is None else read_mask(mask, size))


def own_size(file: Path) -> Size:
    """(width, height) in which the image is drawn where nothing else is asked for: its own in whole latents."""
    try:
        width, height = read_header(file).size
    except Unreadable as fault:
        raise UserError(coded("DATA-001", f"image {file}: {fault}; use another image")) from None
    return _in_latents(width), _in_latents(height)


def _in_latents(side: int) -> int:
    return max(PIXELS_OF_A_LATENT, min(side, _LARGEST) // PIXELS_OF_A_LATENT * PIXELS_OF_A_LATENT)


def read_pixels(file: Path, size: Size) -> Tensor:
    """The image [3,H,W] in −1…1 in the `size` (width, height); what is transparent is white."""
    image = _decoded(file, "image").on()
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def read_mask(file: Path, size: Size) -> Tensor:
    """The mask [1,H,W] of a picture of `size` (width, height): 1 where it is more white than black, 0 elsewhere."""
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
