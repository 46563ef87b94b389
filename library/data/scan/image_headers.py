"""The size of an image as it will be trained, and whether its file is whole, without decoding it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from library.data.scan.image_notes import TURNED, orientation_of, quiet_about_exif
from library.image_endings import register_plugins
from library.paths.faults import unopened
from library.paths.opening import open_file, regular
from library.windows_names import LONGEST, only_short_paths

if TYPE_CHECKING:
    from PIL import Image

Result = TypeVar("Result")

_TAIL = 64 * 1024  # bytes
_BYTES_OF = {"I": 4, "F": 4, "I;16": 2}  # of a pixel, in modes of one band where it is not one
_DEFLATE = 1040  # bytes to which the packing of PNG can unfold one, at the very most
ALWAYS_UNPACKED = 4 * 178_956_970  # bytes of pixels that any file may say it has: four for each that PIL opens by itself
RICHEST = 400  # bytes of pixels for each of a larger file; a photograph packed with much loss has about 60, white paper as JPEG 200
MOST_UNPACKED = 1 << 33  # bytes of pixels


class Unreadable(Exception):
    """An image file that cannot be trained on; the text says why."""


@dataclass(frozen=True)
class Header:
    """`size` (width, height) in pixels after EXIF rotation; `format` and `mode` as PIL names them, whatever the file's ending."""

    size: tuple[int, int]
    format: str
    mode: str = "RGB"
    orientation: int = 1  # of EXIF, 1 = upright
    frames: int = 1  # more than one: animated
    colour: str = ""  # what is done about its colour profile, as image_notes names it

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Header | None:
        """The fact whose fields these are, in their order; None when the values are no such thing."""
        match values:
            case [[int(width), int(height)], str(form), str(mode), int(orientation), int(frames), str(colour)] if width > 0 < height:
                return cls((width, height), form, mode, orientation, frames, colour)
        return None


def open_image(file: Path | BinaryIO) -> Image.Image:
    """PIL's `Image.open` for images of any size that their bytes can hold: it takes many pixels alone for an attack, but these images
    are the user's own. Raises Unreadable for one that says it has more."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    register_plugins()
    quiet_about_exif()
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
    """Raise Unreadable where `length` bytes cannot be a picture of as many pixels as the header says."""
    width, height = image.size
    unpacked = width * height * _BYTES_OF.get(image.mode, len(image.getbands()))
    cannot = image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and unpacked > _DEFLATE * length
    if cannot or unpacked > MOST_UNPACKED or unpacked > max(ALWAYS_UNPACKED, RICHEST * length):
        raise Unreadable(f"claims {width}×{height} pixels, which is impossible in {length:,} bytes")


def read_header(path: Path) -> Header:
    """Size and format; raises Unreadable for a file that is no image, or cut short.

    A file whose end looks wrong is decoded to be sure: cameras append things behind the picture.
    """
    return visit(path, lambda image, header: header)


def visit(path: Path, act: Callable[[Image.Image, Header], Result]) -> Result:
    """What `act` makes of the open image and its header, so that a file is opened once for both; raises Unreadable as `read_header`,
    also for what Pillow raises in `act`."""
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
    except Exception as fault:  # PIL raises many kinds for broken files
        if only_short_paths() and len(str(path.absolute())) > LONGEST:
            raise Unreadable(
                f"its path has {len(str(path.absolute()))} characters and this Windows allows {LONGEST}; "
                "move the folder up, or turn on long paths (docs/windows.md)"
            ) from None
        of_the_system = isinstance(fault, OSError) and fault.errno is not None
        raise Unreadable(unopened(path, fault) if of_the_system else reason_of(fault)) from None


def _header(image: Image.Image, head: bytes, tail: bytes, length: int) -> Header:
    from library.data.pixels.colour import colour_of

    mode, colour = image.mode, colour_of(image)  # before it is loaded
    if _looks_cut(image, head, tail, length):
        image.load()
    width, height = image.size
    orientation = _orientation(image, tail)
    if orientation in TURNED:
        width, height = height, width
    return Header((width, height), image.format or "", mode, orientation, _frames(image), colour)


def _looks_cut(image: Image.Image, head: bytes, tail: bytes, length: int) -> bool:
    """Whether the file's end, or the length its head tells, speaks against its being whole."""
    if image.format == "PNG":
        return b"IEND" not in tail
    if image.format in ("JPEG", "MPO"):
        # The thumbnail inside the EXIF block is a JPEG with an end of its own.
        exif = image.info.get("exif")
        return b"\xff\xd9" not in (tail.replace(exif, b"") if exif else tail)
    if image.format in ("WEBP", "BMP"):
        told = int.from_bytes(head[4:8], "little") + 8 if image.format == "WEBP" else int.from_bytes(head[2:6], "little")
        return length < told or told == 0
    return True  # no format that the suite promises: only decoding tells


def _orientation(image: Image.Image, tail: bytes) -> int:
    """The EXIF orientation, 1 when there is none. PNGs that carry EXIF behind the picture are decoded for it, others are not."""
    if image.format == "PNG" and "exif" not in image.info and b"eXIf" in tail:
        image.load()
    return orientation_of(image)


def _frames(image: Image.Image) -> int:
    """The pictures of an animation. An MPO holds several views of one photograph, of which the first one is the photograph."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def reason_of(fault: Exception) -> str:
    """Why PIL could not read an image, in a few words."""
    name = type(fault).__name__
    if name == "UnidentifiedImageError":
        return "is not an image, or of a kind that cannot be read"
    if isinstance(fault, OSError) and fault.errno is not None:  # the system's, not PIL's
        return f"cannot be opened ({fault.strerror})"
    text = str(fault)
    if "truncated" in text.lower() or "unrecognized data stream" in text.lower():
        return f"is truncated ({text})"
    return f"is damaged ({text or name})"
