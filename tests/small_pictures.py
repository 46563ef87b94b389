"""Pictures and masks that tests draw on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_ramp(path: Path, size: tuple[int, int] = (64, 96)) -> Path:
    """A picture of `size` (width, height) in which no two places are alike."""
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    picture = np.stack([rows * 2, columns * 3, 255 - rows - columns], axis=-1).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save(path)
    return path
