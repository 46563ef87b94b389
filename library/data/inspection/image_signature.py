"""What only decoding an image tells: whether it can be decoded at all, shows anything, has clear parts, and which others look like it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from library.data.pixels.decode import decode
from library.data.scan.image_headers import Unreadable, reason_of

SIGNATURE_BYTES = 8 + 4 * 4 * 3  # 64 signs of a cosine transform, then mean RGB of 4×4 fields
_SIDE = 32  # pixels of the small picture that is transformed
_FLAT = 6  # of 255: where no channel spans more, nothing can be seen


@dataclass(frozen=True)
class Look:
    """`signature` (hex) is that of the picture upright on white; `clear`: some pixel is transparent; `flat`: all of one colour."""

    signature: str
    clear: bool = False
    flat: bool = False

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Look | None:
        """The fact that `astuple` was taken of; None when the values are no such thing."""
        match values:
            case [str(signature), bool(clear), bool(flat)] if _is_signature(signature):
                return cls(signature, clear, flat)
        return None


def look_at(path: Path) -> Look:
    """Decode an image, a JPEG at down to ⅛; raises Unreadable."""
    from PIL import Image

    try:
        image = decode(path, (2 * _SIDE, 2 * _SIDE))
        clear = image.alpha is not None and int(np.asarray(image.alpha).min()) < 255
        pixels = np.asarray(image.on().resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32)
    except Exception as fault:  # PIL raises many kinds for broken files
        raise Unreadable(reason_of(fault)) from None
    return Look(signature(pixels), bool(clear), bool(np.ptp(pixels, axis=(0, 1)).max() <= _FLAT))


def signature(pixels: np.ndarray) -> str:
    """Hex of the signature of a small RGB picture, float32 [32,32,3] in 0..255.

    64 bits say which of the lowest 8×8 frequencies of its brightness (discrete cosine transform, type II) lie above their median:
    a sign of shapes that scaling, another format and a little noise hardly touch. The colours keep apart what differs in nothing else.
    """
    waves = _waves()
    frequencies = (waves @ (pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)) @ waves.T).ravel()
    bits = frequencies > np.median(frequencies[1:])
    bits[0] = False  # the mean brightness, which the colours tell
    fields: np.ndarray = pixels.reshape(4, _SIDE // 4, 4, _SIDE // 4, 3).mean(axis=(1, 3)) + 0.5
    return (np.packbits(bits).tobytes() + fields.astype(np.uint8).tobytes()).hex()


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
