"""Colour profiles: converts images to sRGB with LittleCMS through Pillow's ImageCms.

The intent is perceptual. Profiles of cameras and screens (three curves and a matrix) support no other. Printing profiles have a table for
it that preserves the steps between colours outside sRGB, where relative colorimetric would merge them.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from library.data.scan.image_notes import CONVERTED, NONE, UNUSABLE

if TYPE_CHECKING:
    from PIL import Image, ImageCms

Wide = np.ndarray  # uint16 [H,W,3], RGB

_NOTHING_MOVES = 1  # of 255: a profile that changes no colour by more than this counts as sRGB, no matter its name
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "LAB"}
_ROWS = 1 << 19  # pixels of a 16-bit image converted at once


class _Unusable(Exception):
    """A profile that does not fit the colour space of its image."""


def colour_of(image: Image.Image) -> str:
    """What `to_srgb` will do with an opened, not yet decoded image: NONE, CONVERTED or UNUSABLE."""
    profile = image.info.get("icc_profile")
    if not profile:
        return NONE
    try:
        return CONVERTED if _transform_for(profile, _kind(image.mode)) is not None else NONE
    except _Unusable:
        return UNUSABLE


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image without alpha, in any mode, to 8-bit sRGB.

    The values stay unchanged if the profile is unusable or sRGB itself.
    """
    from PIL import Image, ImageCms

    plain = _plain(image)
    try:
        transform = _transform_for(profile, _kind(plain.mode)) if profile else _of_lab() if plain.mode == "LAB" else None
    except _Unusable:
        transform = _of_lab() if plain.mode == "LAB" else None
    if transform is None:
        return _rounded(np.asarray(plain)).convert("RGB") if plain.mode == "I;16" else plain.convert("RGB")
    if transform.input_mode == "L" and profile:
        if plain.mode == "RGB" and not _is_grey(plain):
            return plain  # a grey profile does not apply to colours
        grey = np.asarray(plain.convert("L") if plain.mode == "RGB" else plain)
        return Image.fromarray(_greys(profile, grey.dtype.itemsize)[grey])
    if plain.mode == "I;16":
        return wide_to_srgb(np.repeat(np.asarray(plain)[..., None], 3, axis=2), profile)
    if transform.input_mode == "RGB":
        plain = plain.convert("RGB")
    converted = ImageCms.applyTransform(plain, transform)
    assert converted is not None
    return converted


@functools.lru_cache(maxsize=8)
def _greys(profile: bytes, width: int) -> np.ndarray:
    """sRGB of every grey of `width` bytes, uint8 [256 or 65536,3].

    LittleCMS's built-in shortcut is off by ten in the dark of a linear profile; without it, converting each pixel takes eight times as
    long.
    """
    from PIL import Image, ImageCms

    levels = np.arange(256**width, dtype=np.uint8 if width == 1 else np.uint16).reshape(256, -1)
    transform = _transform(profile, "L" if width == 1 else "I;16")
    assert transform is not None
    return np.asarray(ImageCms.applyTransform(Image.fromarray(levels), transform)).reshape(-1, 3)


def wide_to_srgb(wide: Wide, profile: bytes | None) -> Image.Image:
    """Convert 16-bit RGB to 8-bit sRGB.

    LittleCMS takes 8 bits here, so a colour is interpolated from four of its eight neighbours (tetrahedral interpolation, Kang 1997, ch.
    4). This uses all 65,536 steps; truncating to 256 first would leave bands in the dark of a linear profile.
    """
    from PIL import Image, ImageCms

    try:
        transform = _transform_for(profile, "RGB") if profile else None
    except _Unusable:
        transform = None
    if transform is not None and transform.input_mode == "L":
        return to_srgb(Image.fromarray(np.ascontiguousarray(wide[..., 0])), profile) if (wide == wide[..., :1]).all() else _rounded(wide)
    if transform is None:
        return _rounded(wide)

    def converted(values: np.ndarray) -> np.ndarray:
        shown = ImageCms.applyTransform(Image.fromarray(values.astype(np.uint8)), transform)
        assert shown is not None
        return np.asarray(shown, dtype=np.float32)

    strips = [_between(strip, converted) for strip in _strips(wide)]
    return Image.fromarray(np.concatenate(strips))


def _strips(wide: Wide) -> Iterator[Wide]:
    rows = max(1, _ROWS // wide.shape[1])
    return (wide[top : top + rows] for top in range(0, wide.shape[0], rows))


def _between(wide: Wide, converted: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """uint8 of one strip: starts at the lower corner and steps along the channels in order of their fractions, largest first."""
    corner = (wide // 257).astype(np.int16)
    part = (wide % 257).astype(np.float32) / 257
    order = np.argsort(-part, axis=2, kind="stable")
    sorted_part = np.take_along_axis(part, order, axis=2)
    total: np.ndarray = (1 - sorted_part[..., :1]) * converted(corner)
    for step in range(3):
        here = order[..., step : step + 1]
        np.put_along_axis(corner, here, np.minimum(np.take_along_axis(corner, here, axis=2) + 1, 255), axis=2)
        weight = sorted_part[..., step : step + 1] - (sorted_part[..., step + 1 : step + 2] if step < 2 else 0)
        total += weight * converted(corner)
    rounded: np.ndarray = (total + 0.5).astype(np.uint8)
    return rounded


def _rounded(wide: np.ndarray) -> Image.Image:
    """Round 16 bits to 8; Pillow's own conversion would clip at 255."""
    from PIL import Image

    return Image.fromarray(((wide.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _plain(image: Image.Image) -> Image.Image:
    """The image as L, I;16, RGB, CMYK or LAB, with unchanged values."""
    from PIL import Image

    if image.mode in ("L", "I;16", "RGB", "CMYK", "LAB"):
        return image
    if image.mode.startswith("I"):  # I;16B and similar modes, and 32 bits, of which 16 are used
        return Image.fromarray(np.asarray(image).astype(np.int64).clip(0, 65535).astype(np.uint16))
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 255.0 if values.max(initial=0) <= 1 else 1.0  # most programs write 0…1
        return Image.fromarray((values * scale + 0.5).clip(0, 255).astype(np.uint8))
    return image.convert("L" if image.mode == "1" else "RGB")


def _kind(mode: str) -> str:
    """The mode whose profiles apply to an image of `mode`."""
    if mode in ("1", "L", "LA", "La", "F") or mode.startswith("I"):
        return "L"
    return mode if mode in ("CMYK", "LAB") else "RGB"


def _transform_for(profile: bytes, kind: str) -> ImageCms.ImageCmsTransform | None:
    """The transform to sRGB, None if the profile changes nothing. Raises _Unusable for a profile of another colour space.

    A grey image may have an RGB profile, and an RGB image with only grey pixels a grey profile.
    """
    space = _space(profile)
    if {kind, space} == {"L", "RGB"} or {kind, space} == {"RGB", "GRAY"}:
        return _transform(profile, "L" if space == "GRAY" else "RGB")
    if _SPACES[kind] != space:
        raise _Unusable
    return _transform(profile, kind)


@functools.lru_cache(maxsize=64)
def _space(profile: bytes) -> str:
    from PIL import ImageCms

    try:
        return str(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space).strip().upper()
    except Exception:  # LittleCMS raises several kinds of exceptions
        return ""


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    from PIL import Image, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        flags = ImageCms.Flags.NOOPTIMIZE if mode in ("L", "I;16") else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)
        if mode == "I;16" or mode not in ("L", "RGB"):
            return transform
        sample = Image.fromarray(_grid() if mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
        moved = np.asarray(ImageCms.applyTransform(sample, transform), dtype=np.int16) - np.asarray(sample.convert("RGB"), dtype=np.int16)
    except Exception:
        raise _Unusable from None
    return None if np.abs(moved).max() <= _NOTHING_MOVES else transform


def _grid() -> np.ndarray:
    """Test colours, uint8 [18,256,3]: all greys, and colours over the whole range."""
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(16, 256, 3)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    return np.concatenate([colours, greys])


@functools.cache
def _of_lab() -> ImageCms.ImageCmsTransform:
    from PIL import ImageCms

    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _is_grey(image: Image.Image) -> bool:
    """Whether all pixels are grey, within the noise of lossy formats."""
    pixels = np.asarray(image).astype(np.int16)
    return bool(np.ptp(pixels, axis=2).max(initial=0) <= 2)
