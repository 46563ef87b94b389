"""The images that img2img begins with, and the masks that say where they are drawn anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from library.data.pixels.decode import Decoded, decode
from library.data.scan.image_headers import Unreadable
from library.errors import UserError, coded, first_line
from library.model.bundle import REDUCTION

_LARGEST = 1 << 14  # pixels a side, as of a prompt's
Size = tuple[int, int]


def own_size(file: Path) -> Size:
    """(width, height) in which the image is drawn where nothing else is asked for: its own in whole latents."""
    width, height = _decoded(file, "--image_path").rgb.size
    return _in_latents(width), _in_latents(height)


def _in_latents(side: int) -> int:
    return max(REDUCTION, min(side, _LARGEST) // REDUCTION * REDUCTION)


def read_pixels(file: Path, size: Size) -> Tensor:
    """The image [3,H,W] in −1…1 in the `size` (width, height); what is transparent is white."""
    image = _decoded(file, "--image_path").on()
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1


def read_mask(file: Path, size: Size) -> Tensor:
    """The mask [1,h,w] in the latents of a picture of `size`: 1 where it is more white than black, 0 elsewhere."""
    image = _decoded(file, "--mask_path").on((0, 0, 0)).convert("L")
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    white = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255 >= 0.5).float()
    width, height = size
    return F.interpolate(white[None, None], size=(height // REDUCTION, width // REDUCTION))[0]


def _decoded(file: Path, option: str) -> Decoded:
    try:
        return decode(file)
    except Unreadable as fault:
        reason = str(fault)
    except (OSError, ValueError, SyntaxError, EOFError) as fault:
        reason = f"cannot be read as an image ({first_line(fault)})"
    raise UserError(coded("DATA-001", f"{option} {file}: {reason}; give another image"))
