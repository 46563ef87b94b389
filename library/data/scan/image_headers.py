"""The size of an image as trained, and whether its file is complete, without decoding it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from library.data.scan.image_notes import TURNED, orientation_of, quiet_about_exif, quiet_libtiff
from library.image_endings import register_plugins
from library.paths.faults import unopened
from library.paths.opening import open_file, regular
from library.windows_names import LONGEST, only_short_paths

if TYPE_CHECKING:
    from PIL import Image

Result = TypeVar("Result")

_TAIL = 64 * 1024  # bytes
_BYTES_OF = {"I": 4, "F": 4, "I;16": 2}  # per pixel, for single-band modes with more than one byte
_DEFLATE = 1040  # largest number of bytes that one byte of PNG data can expand to
ALWAYS_UNPACKED = 4 * 178_956_970  # bytes of pixels that any file may claim: four for each pixel that PIL opens by default
RICHEST = 400  # bytes of pixels per byte of a larger file; a strongly compressed photograph has about 60, white paper as JPEG 200
MOST_UNPACKED = 1 << 33  # bytes of pixels


class Unreadable(Exception):
    """An image file that cannot be trained; the text says why."""


@dataclass(frozen=True)
class Header:
    """`size` (width, height) in pixels after EXIF rotation; `format` and `mode` as PIL names them, no matter the file extension."""

    size: tuple[int, int]
    format: str
    mode: str = "RGB"
    orientation: int = 1  # EXIF orientation, 1 = upright
    frames: int = 1  # more than one: animated
    colour: str = ""  # how its colour profile is treated; one of the names in image_notes

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Header | None:
        """The fact with these fields, in order; None if the values are invalid."""
        match values:
            case [[int(width), int(height)], str(form), str(mode), int(orientation), int(frames), str(colour)] if width > 0 < height:
                return cls((width, height), form, mode, orientation, frames, colour)
        return None


def open_image(file: Path | BinaryIO) -> Image.Image:
    """PIL's `Image.open` for images of any plausible size.

    PIL takes a large number of pixels alone for an attack, but these are the user's own images. Raises Unreadable for an image that claims
    more pixels than its bytes can contain.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    register_plugins()
    quiet_about_exif()
    quiet_libtiff()
    length = file.stat().st_size if isinstance(file, Path) else _length(file)
    image = Image.open(regular(file) if isinstance(file, Path) else file)
    try:
        _refuse_bomb(image, length)
    except Unreadable:
        image.close()
        raise
    return image


def _length(file: BinaryIO) -> int:
    here = file.tell()
    length = file.seek(0, io.SEEK_END)
    file.seek(here)
    return length


def _refuse_bomb(image: Image.Image, length: int) -> None:
    """Raise Unreadable if `length` bytes cannot contain an image with as many pixels as the header claims."""
    width, height = image.size
    unpacked = width * height * _BYTES_OF.get(image.mode, len(image.getbands()))
    cannot = image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and unpacked > _DEFLATE * length
    if cannot or unpacked > MOST_UNPACKED or unpacked > max(ALWAYS_UNPACKED, RICHEST * length):
        raise Unreadable(f"claims {width}×{height} pixels, which is impossible in {length:,} bytes")


def read_header(path: Path) -> Header:
    """Size and format. Raises Unreadable for a file that is not an image or is truncated.

    A file whose end looks wrong is decoded to be sure, since cameras append data after the image.
    """
    return visit(path, lambda image, header: header)


def visit(path: Path, act: Callable[[Image.Image, Header], Result]) -> Result:
    """The result of `act` for the open image and its header, so that a file is opened once for both.

    Raises Unreadable like `read_header`, also for exceptions of Pillow in `act`.
    """
    try:
        with open_file(path) as file:
            head = file.read(8)
            if not head:
                raise Unreadable("the file is empty")
            length = file.seek(0, io.SEEK_END)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
            file.seek(0)
            with open_image(file) as image:
                return act(image, _header(image, head, tail, length))
    except Unreadable:
        raise
    except Exception as fault:  # PIL raises many kinds of exceptions for damaged files
        if only_short_paths() and len(str(path.absolute())) > LONGEST:
            raise Unreadable(
                f"its path has {len(str(path.absolute()))} characters and this Windows allows {LONGEST}; "
                "move the folder up, or turn on long paths (docs/windows.md)"
            ) from None
        of_the_system = isinstance(fault, OSError) and fault.errno is not None
        raise Unreadable(unopened(path, fault) if of_the_system else reason_of(fault)) from None


def _header(image: Image.Image, head: bytes, tail: bytes, length: int) -> Header:
    from library.data.pixels.colour import colour_of

    mode, colour = image.mode, colour_of(image)  # before loading, which changes them
    if _looks_cut(image, head, tail, length):
        image.load()
    width, height = image.size
    orientation = _orientation(image, tail)
    if orientation in TURNED:
        width, height = height, width
    return Header((width, height), image.format or "", mode, orientation, _frames(image), colour)


def _looks_cut(image: Image.Image, head: bytes, tail: bytes, length: int) -> bool:
    """Whether the end of the file, or the length in its header, suggests that it is truncated."""
    if image.format == "PNG":
        return b"IEND" not in tail
    if image.format in ("JPEG", "MPO"):
        # The thumbnail in the EXIF block is a JPEG with its own end marker.
        exif = image.info.get("exif")
        return b"\xff\xd9" not in (tail.replace(exif, b"") if exif else tail)
    if image.format in ("WEBP", "BMP"):
        stated = int.from_bytes(head[4:8], "little") + 8 if image.format == "WEBP" else int.from_bytes(head[2:6], "little")
        return length < stated or stated == 0
    return True  # no officially supported format: only decoding it shows


def _orientation(image: Image.Image, tail: bytes) -> int:
    """The EXIF orientation, 1 without EXIF. Only a PNG with EXIF after the image data is decoded for it."""
    if image.format == "PNG" and "exif" not in image.info and b"eXIf" in tail:
        image.load()
    return orientation_of(image)


def _frames(image: Image.Image) -> int:
    """Number of frames of an animation. An MPO has several views of one photograph; only the first counts."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def reason_of(fault: Exception) -> str:
    """A short reason why PIL could not read an image."""
    name = type(fault).__name__
    if name == "UnidentifiedImageError":
        return "is not an image, or of a kind that cannot be read"
    if isinstance(fault, OSError) and fault.errno is not None:  # raised by the system, not by PIL
        return f"cannot be opened ({fault.strerror})"
    text = str(fault)
    if "truncated" in text.lower() or "unrecognized data stream" in text.lower():
        return f"is truncated ({text})"
    return f"is damaged ({text or name})"
