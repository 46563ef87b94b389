"""The single way to decode an image file: upright, in sRGB, with separate transparency."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from library.data.config.blueprint import Size
from library.data.pixels.colour import to_srgb, wide_to_srgb
from library.data.scan.image_headers import open_image
from library.data.scan.image_notes import TURNED, orientation_of, upright
from library.paths.opening import read_bytes

if TYPE_CHECKING:
    from PIL import Image

WHITE = (255, 255, 255)
_STEPS_OF = {"L;2": 85, "L;4": 17}  # factor from a PNG's grey of 2 or 4 bits to 8 bits
_TIFF_ORIENTATION, _TIFF_BITS = 274, 258


@dataclass(frozen=True)
class Decoded:
    """`rgb` ignores transparency; `alpha` (mode L, None if fully opaque) has the same size."""

    rgb: Image.Image
    alpha: Image.Image | None

    def on(self, background: tuple[int, int, int] = WHITE) -> Image.Image:
        """The image composited on a background colour, mode RGB."""
        from PIL import Image

        if self.alpha is None:
            return self.rgb
        clear = self.rgb.copy()
        clear.putalpha(self.alpha)
        return Image.alpha_composite(Image.new("RGBA", clear.size, (*background, 255)), clear).convert("RGB")


def decode(path: Path, cover: Size | None = None, profiles: bool = True) -> Decoded:
    """Decode the first frame. `cover` (width, height) allows decoding a JPEG at ½, ¼ or ⅛ if the result is still at least that large.

    Set `profiles` to False for masks, whose values are not colours. Exceptions of Pillow for damaged files propagate.
    """
    with open_image(path) as image:
        return decode_opened(image, path, cover, profiles)


def decode_opened(image: Image.Image, path: Path, cover: Size | None = None, profiles: bool = True) -> Decoded:
    """Like `decode`, for an image that is open but not loaded yet."""
    if cover and image.format in ("JPEG", "MPO"):
        image.draft(None, cover[::-1] if orientation_of(image) in TURNED else cover)
    raw = _raw_mode(image)
    wide = _wide(path, image, raw)
    turn = _tiff_orientation(image) if wide is not None and image.format == "TIFF" else None
    image.load()
    profile = image.info.get("icc_profile") or None if profiles else None
    if wide is not None:
        rgb, alpha = wide_to_srgb(wide[..., :3], profile), _alpha_of_wide(wide, image)
    else:
        alpha = _alpha(image, raw)
        rgb = to_srgb(_without_alpha(image), profile)
    turn = orientation_of(image) if turn is None else turn
    return Decoded(upright(rgb, turn), None if alpha is None else upright(alpha, turn))


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name of the file's pixel layout (RGB;16B); only available until the image is loaded."""
    tiles = getattr(image, "tile", None)
    args: object = tiles[0].args if tiles else ""
    return args if isinstance(args, str) else str(args[0]) if isinstance(args, tuple) and args else ""


def _wide(path: Path, image: Image.Image, raw: str) -> np.ndarray | None:
    """uint16 [H,W,3 or 4] of a PNG or TIFF with 16 bits per channel, of which Pillow keeps 8; None for other files."""
    if image.mode not in ("RGB", "RGBA"):
        return None
    if image.format == "TIFF":
        bits = _tiff_tag(image, _TIFF_BITS, ())
        is_wide = bool(bits) and set(bits if isinstance(bits, tuple) else (bits,)) == {16}
    else:
        is_wide = image.format == "PNG" and raw.endswith(";16B")
    if not is_wide:
        return None
    import cv2

    try:
        bgr = cv2.imdecode(np.frombuffer(read_bytes(path), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    width, height = image.size[::-1] if image.format == "TIFF" and _tiff_orientation(image) in TURNED else image.size
    if bgr is None or bgr.dtype != np.uint16 or bgr.ndim != 3 or bgr.shape[:2] != (height, width) or bgr.shape[2] not in (3, 4):
        return None
    wide: np.ndarray = bgr[..., [2, 1, 0, 3][: bgr.shape[2]]]
    return wide


def _tiff_orientation(image: Image.Image) -> int:
    value = _tiff_tag(image, _TIFF_ORIENTATION, 1)
    return value if isinstance(value, int) and value in range(1, 9) else 1


def _tiff_tag(image: Image.Image, tag: int, default: object) -> object:
    """The value of a TIFF tag."""
    from PIL.TiffImagePlugin import TiffImageFile

    assert isinstance(image, TiffImageFile)
    value: object = image.tag_v2.get(tag, default)
    return value


def _alpha_of_wide(wide: np.ndarray, image: Image.Image) -> Image.Image | None:
    from PIL import Image

    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple):
        return _where(~(wide[..., :3] == np.array(key, dtype=np.uint16)).all(axis=2))
    if wide.shape[2] < 4:
        return None
    return Image.fromarray(((wide[..., 3].astype(np.uint32) + 128) // 257).astype(np.uint8))


def _alpha(image: Image.Image, raw: str) -> Image.Image | None:
    """The opacity of a loaded image, mode L; None if the image is opaque."""
    key = image.info.get("transparency")
    if image.format == "PNG" and isinstance(key, int | tuple) and image.mode in ("1", "L", "I;16", "RGB"):
        return _where(~_is_key(np.asarray(image), key, raw))
    if image.mode in ("RGBA", "LA", "RGBa", "La", "PA") or key is not None:
        if image.mode in ("RGBa", "La"):
            return image.getchannel("a")
        return image.convert("RGBA").getchannel("A")
    return None


def _is_key(pixels: np.ndarray, key: int | tuple[int, ...], raw: str) -> np.ndarray:
    """Where pixels have a PNG's transparent colour, which is stored with the bit depth of the file."""
    if isinstance(key, tuple):
        return np.asarray((pixels == np.array([part & 255 for part in key], dtype=np.uint8)).all(axis=2))
    if pixels.dtype == np.uint16:
        return np.asarray(pixels == key)
    if pixels.dtype == bool:
        return np.asarray(pixels == bool(key))
    step = _STEPS_OF.get(raw, 1)
    return np.asarray(pixels == (key % (255 // step + 1)) * step)


def _where(opaque: np.ndarray) -> Image.Image:
    from PIL import Image

    return Image.fromarray(opaque.astype(np.uint8) * 255)


def _without_alpha(image: Image.Image) -> Image.Image:
    """The colour channels, including those of invisible pixels."""
    if image.mode in ("LA", "La"):
        return image.convert("LA").getchannel("L")
    if image.mode in ("RGBA", "RGBa", "PA", "P"):
        return image.convert("RGBA").convert("RGB")
    return image
