"""Facts that require decoding an image: whether it is readable, flat or transparent, and a signature to find similar images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from library.data.pixels.decode import Decoded, decode, decode_opened
from library.data.scan.image_headers import Header, Unreadable, reason_of, visit

if TYPE_CHECKING:
    from PIL import Image

SIGNATURE_BYTES = 8 + 4 * 4 * 3  # 64 signs of a cosine transform, then mean RGB of 4×4 fields
_SIDE = 32  # pixels per side of the reduced image that is transformed
_COVER = (2 * _SIDE, 2 * _SIDE)
_MIDDLE = 31  # index of the median of 63 values
_FLAT = 6  # of 255: nothing is visible if no channel spans more


@dataclass(frozen=True)
class Look:
    """`signature` (hex) describes the upright image on white.

    `clear`: some pixel is transparent; `flat`: all pixels have the same colour.
    """

    signature: str
    clear: bool = False
    flat: bool = False

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Look | None:
        """The fact with these fields, in order; None if the values are invalid."""
        match values:
            case [str(signature), bool(clear), bool(flat)] if _is_signature(signature):
                return cls(signature, clear, flat)
        return None


def look_at(path: Path) -> Look:
    """Decode an image, a JPEG at down to ⅛ of its size; raises Unreadable."""
    try:
        return _look_of(decode(path, _COVER))
    except Exception as fault:  # PIL raises many kinds of exceptions for damaged files
        raise Unreadable(reason_of(fault)) from None


def visit_and_look(path: Path) -> tuple[Header, Look | None]:
    """Header and look from opening the file once; None as look if it has to be decoded in another way. Raises Unreadable."""
    return visit(path, lambda image, header: (header, _look_of(decode_opened(image, path, _COVER)) if _is_fresh(image, header) else None))


def _is_fresh(image: Image.Image, header: Header) -> bool:
    """Whether reading the header left the image as `decode` expects it: not loaded, and at its only frame."""
    return header.format in ("JPEG", "PNG") and header.frames == 1 and bool(getattr(image, "tile", None))


def _look_of(image: Decoded) -> Look:
    from PIL import Image

    clear = image.alpha is not None and int(np.asarray(image.alpha).min()) < 255
    small = image.on().resize((_SIDE, _SIDE), Image.Resampling.BOX)
    spans = [high - low for low, high in cast(tuple[tuple[int, int], ...], small.getextrema())]
    return Look(signature(np.asarray(small, dtype=np.float32)), bool(clear), max(spans) <= _FLAT)


def signature(pixels: np.ndarray) -> str:
    """Hex signature of a small RGB image, float32 [32,32,3] in 0..255.

    64 bits mark which of the lowest 8×8 frequencies of its brightness (discrete cosine transform, type II) exceed their median. Scaling,
    another format and a little noise hardly change them. Mean colours distinguish images that differ only in colour.
    """
    waves = _waves()
    frequencies = (waves @ (pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)) @ waves.T).ravel()
    bits = frequencies > np.partition(frequencies[1:], _MIDDLE)[_MIDDLE]
    bits[0] = False  # the mean brightness; the colours include it
    strips = (_fields() @ pixels.reshape(_SIDE, _SIDE * 3)).reshape(4, _SIDE, 3)
    colours: np.ndarray = _fields() @ strips + 0.5
    return (np.packbits(bits).tobytes() + colours.astype(np.uint8).tobytes()).hex()


@cache
def _fields() -> np.ndarray:
    """Matrix that computes the means of 4 fields of 32 pixels, float32 [4,32]; exact for whole numbers."""
    fields: np.ndarray = np.kron(np.eye(4), np.full(_SIDE // 4, 4 / _SIDE)).astype(np.float32)
    return fields


@cache
def _waves() -> np.ndarray:
    """The 8 lowest cosine waves over 32 pixels, float32 [8,32]."""
    wave, place = np.mgrid[:8, :_SIDE]
    waves: np.ndarray = np.cos(np.pi * wave * (2 * place + 1) / (2 * _SIDE))
    return waves.astype(np.float32)


def _is_signature(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == SIGNATURE_BYTES
    except ValueError:
        return False
