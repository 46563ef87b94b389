"""What only decoding an image tells: whether it can be decoded at all, shows anything, has clear parts, and which others look like it."""

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
_SIDE = 32  # pixels of the small picture that is transformed
_COVER = (2 * _SIDE, 2 * _SIDE)
_MIDDLE = 31  # the place of the median of 63 values
_FLAT = 6  # of 255: where no channel spans more, nothing can be seen


@dataclass(frozen=True)
class Look:
    """`signature` (hex) is that of the picture upright on white; `clear`: some pixel is transparent; `flat`: all of one colour."""

    signature: str
    clear: bool = False
    flat: bool = False

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Look | None:
        """The fact whose fields these are, in their order; None when the values are no such thing."""
        match values:
            case [str(signature), bool(clear), bool(flat)] if _is_signature(signature):
                return cls(signature, clear, flat)
        return None


def look_at(path: Path) -> Look:
    """Decode an image, a JPEG at down to ⅛; raises Unreadable."""
    try:
        return _look_of(decode(path, _COVER))
    except Exception as fault:  # PIL raises many kinds for broken files
        raise Unreadable(reason_of(fault)) from None


def visit_and_look(path: Path) -> tuple[Header, Look | None]:
    """Header and look by opening the file once; no look where that would need another way to decode it. Raises Unreadable."""
    return visit(path, lambda image, header: (header, _look_of(decode_opened(image, path, _COVER)) if _is_fresh(image, header) else None))


def _is_fresh(image: Image.Image, header: Header) -> bool:
    """Whether what the header needed has left the image as `decode` finds it: not loaded, and at its only frame."""
    return header.format in ("JPEG", "PNG") and header.frames == 1 and bool(getattr(image, "tile", None))


def _look_of(image: Decoded) -> Look:
    from PIL import Image

    clear = image.alpha is not None and int(np.asarray(image.alpha).min()) < 255
    small = image.on().resize((_SIDE, _SIDE), Image.Resampling.BOX)
    spans = [high - low for low, high in cast(tuple[tuple[int, int], ...], small.getextrema())]
    return Look(signature(np.asarray(small, dtype=np.float32)), bool(clear), max(spans) <= _FLAT)


def signature(pixels: np.ndarray) -> str:
    """Hex of the signature of a small RGB picture, float32 [32,32,3] in 0..255.

    64 bits say which of the lowest 8×8 frequencies of its brightness (discrete cosine transform, type II) lie above their median:
    a sign of shapes that scaling, another format and a little noise hardly touch. The colours keep apart what differs in nothing else.
    """
    waves = _waves()
    frequencies = (waves @ (pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)) @ waves.T).ravel()
    bits = frequencies > np.partition(frequencies[1:], _MIDDLE)[_MIDDLE]
    bits[0] = False  # the mean brightness, which the colours tell
    strips = (_fields() @ pixels.reshape(_SIDE, _SIDE * 3)).reshape(4, _SIDE, 3)
    colours: np.ndarray = _fields() @ strips + 0.5
    return (np.packbits(bits).tobytes() + colours.astype(np.uint8).tobytes()).hex()


@cache
def _fields() -> np.ndarray:
    """What makes the means of 4 fields of 32 pixels, float32 [4,32]; those of whole numbers are exact."""
    fields: np.ndarray = np.kron(np.eye(4), np.full(_SIDE // 4, 4 / _SIDE)).astype(np.float32)
    return fields


@cache
def _waves() -> np.ndarray:
    """The 8 lowest waves over 32 pixels, float32 [8,32]."""
    wave, place = np.mgrid[:8, :_SIDE]
    waves: np.ndarray = np.cos(np.pi * wave * (2 * place + 1) / (2 * _SIDE))
    return waves.astype(np.float32)


def _is_signature(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == SIGNATURE_BYTES
    except ValueError:
        return False
