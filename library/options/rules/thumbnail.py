"""--metadata_thumbnail: the preview image in a file's metadata, as the data URL that ModelSpec specifies."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from library.errors import Problem, UserError, coded
from library.options.rules.option_view import OptionView
from library.paths.faults import file_fault
from library.paths.look import expanded
from library.paths.opening import read_bytes

LARGEST = 1 << 20  # bytes; it is read each time the file's metadata is read
_BEGINNINGS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


def as_data_url(value: str | None) -> str | None:
    """Return the data URL of an image file, or an existing data URL unchanged. Raises UserError for anything else.

    The image type comes from the file's bytes, not from the ending of its name.
    """
    if value is None or value.startswith("data:image/"):
        return value
    place = f"--metadata_thumbnail {value[:80]}"
    if fault := file_fault(expanded(Path(value))):
        raise UserError(fault.reworded(f"--metadata_thumbnail: {fault}; use an image file, or a data:image/… URL"))
    try:
        data = read_bytes(expanded(Path(value)))
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        raise UserError(coded("DISK-005", f"{place}: cannot be read ({reason}); use an image file, or a data:image/… URL")) from None
    kind = next((kind for beginning, kind in _BEGINNINGS.items() if data.startswith(beginning)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise UserError(coded("DISK-005", f"{place}: is not a PNG, JPEG, WebP or GIF image; use one, at most 256 pixels wide and high"))
    if len(data) > LARGEST:
        raise UserError(
            coded(
                "DISK-005",
                f"{place}: has {len(data) / 2**20:.1f} MiB, and at most 1 MiB fits into a file's metadata; reduce it to 256 pixels",
            )
        )
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def thumbnail(options: OptionView) -> Iterator[Problem]:
    """The image must fit into the file's metadata."""
    try:
        as_data_url(options.metadata_thumbnail)
    except UserError as fault:
        yield from fault.problems
