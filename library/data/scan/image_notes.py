"""Orientation and colour profile of an image file."""

from __future__ import annotations

import contextlib
import functools
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# how a colour profile is treated
NONE = ""  # no profile, or sRGB itself
CONVERTED = "converted"  # converted to sRGB
UNUSABLE = "unusable"  # the values are taken as sRGB

TURNED = frozenset({5, 6, 7, 8})  # orientations that swap width and height
_ORIENTATION = 0x0112


@functools.cache
def quiet_about_exif() -> None:
    """Suppress Pillow's warnings about malformed EXIF blocks, each with a line of its source: the pixels are fine."""
    warnings.filterwarnings("ignore", r"(Possibly )?[Cc]orrupt EXIF data|Tag data larger than file|Metadata Warning", UserWarning)


@functools.cache
def quiet_libtiff() -> None:
    """Keep libtiff from writing what is wrong with a file to the standard error stream itself: Pillow raises an error too.

    Where libtiff is inside of Pillow's own library, as on Windows, it cannot be reached, and nothing happens.
    """
    import ctypes

    from PIL import _imaging

    with contextlib.suppress(AttributeError, OSError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        set_handler(None)


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8, relative to the pixels that Pillow returns; 1 if it is missing, invalid or unreadable.

    Decodes nothing: a PNG with its block after the image data has it only once loaded.
    """
    from PIL import Image

    if image.format == "TIFF":  # Pillow already turns these upright
        return 1
    try:
        value = Image.Image.getexif(image).get(_ORIENTATION, 1)  # PngImageFile's own method would decode the whole image first
        if isinstance(value, tuple | list) and len(value) == 1:
            value = value[0]
        return int(value) if value in range(1, 9) else 1
    except Exception:  # Pillow raises many kinds of exceptions for blocks that are truncated, invalid, or point outside
        return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned and mirrored according to its orientation; the same object for 1."""
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
