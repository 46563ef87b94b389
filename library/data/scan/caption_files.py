"""A caption file beside an image: its first line, and what else the report should know of it."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def split_tags(caption: str) -> list[str]:
    """The comma-separated parts without surrounding blanks; empty parts are no tags."""
    return [tag for tag in (part.strip() for part in caption.split(",")) if tag]


@dataclass(frozen=True)
class CaptionFile:
    """`text` is the first line without surrounding blanks; `more` counts the further lines that hold something, which are not read."""

    text: str
    more: int = 0

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> CaptionFile | None:
        """The fact that `astuple` was taken of; None when the values are no such thing."""
        match values:
            case [str(text), int(more)]:
                return cls(text, more)
        return None


def read_caption(path: Path) -> CaptionFile:
    """Read a UTF-8 file, with or without a BOM; raises OSError, and UnicodeDecodeError for another encoding."""
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise UnicodeDecodeError("utf-8", data, 0, 2, "UTF-16")
    first, *rest = data.decode("utf-8").replace("\r", "\n").split("\n")
    return CaptionFile(first.strip(), sum(bool(line.strip()) for line in rest))
