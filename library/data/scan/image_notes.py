"""What an image file notes beside its pixels: how the camera held it, and what is done about its colour profile."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# what is done about a colour profile
NONE = ""  # there is none, or it is sRGB's own
CONVERTED = "converted"  # to sRGB
UNUSABLE = "unusable"  # the numbers are taken for sRGB

TURNED = frozenset({5, 6, 7, 8})  # orientations that exchange width and height
_ORIENTATION = 0x0112


@functools.cache
def quiet_about_exif() -> None:
    """Keep Pillow's warnings of malformed blocks, each with a line of its source, out of the output: the pixels are sound."""
    warnings.filterwarnings("ignore", r"(Possibly )?[Cc]orrupt EXIF data|Tag data larger than file|Metadata Warning", UserWarning)


def orientation_of(image: Image.Image) -> int:
    """1 (upright) to 8, as the EXIF block says of the pixels that Pillow gives; 1 where it says nothing, nonsense, or cannot be read.

    Nothing is decoded for it: a PNG whose block stands behind the picture says it once it is loaded.
    """
    from PIL import Image

    if image.format == "TIFF":  # Pillow turns these upright itself
        return 1
    try:
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)  # PngImageFile's own would decode the whole picture first
        if isinstance(value, tuple | list) and len(value) == 1:
            value = value[0]
        return int(value) if value in range(1, 9) else 1
    except Exception:  # Pillow raises many kinds for blocks that are cut, garbage, or point outside
        return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned and mirrored as its orientation asks; the image itself where that is 1."""
    from PIL import Image

    steps = Image.Transpose
    ways = {
        2: steps.FLIP_LEFT_RIGHT,
        3: steps.ROTATE_180,
        4: steps.FLIP_TOP_BOTTOM,
        5: steps.TRANSPOSE,
        6: steps.ROTATE_270,
        7: steps.TRANSVERSE,
        8: steps.ROTATE_90,
    }
    return image.transpose(ways[orientation]) if orientation in ways else image
