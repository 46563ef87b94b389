"""A caption file beside an image: its first line or all of them, what else the report should know of it, and the parts of a caption."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from library.data.config.blueprint import SubsetOptions
from library.data.scan.findings import NOTE, WARNING, Finding
from library.paths.opening import read_bytes


def split_tags(caption: str, separator: str = ",") -> list[str]:
    """The comma-separated parts without surrounding blanks; empty parts are no tags."""
    return [tag for tag in (part.strip() for part in caption.split(separator)) if tag]


def with_affixes(caption: str, settings: SubsetOptions) -> str:
    """`caption_prefix`, the caption and `caption_suffix`, a blank between them; before any line of several is drawn."""
    before = f"{settings.caption_prefix} " if settings.caption_prefix else ""
    return before + caption + (f" {settings.caption_suffix}" if settings.caption_suffix else "")


def tag_parts(caption: str, settings: SubsetOptions) -> tuple[list[str], list[str], list[str]]:
    """The tags before, inside and behind a pair of `keep_tokens_separator`; without one all tags are inside, with a single one
    those behind it."""
    parts = caption.split(settings.keep_tokens_separator, 2) if settings.keep_tokens_separator else [caption]
    if len(parts) == 1:
        return [], split_tags(caption, settings.caption_separator), []
    first, inside, *last = (split_tags(part, settings.caption_separator) for part in parts)
    return first, inside, last[0] if last else []


def in_order(caption: str, settings: SubsetOptions) -> str:
    """The caption without its `keep_tokens_separator`, all tags in their places; untouched where it has none."""
    if not settings.keep_tokens_separator or settings.keep_tokens_separator not in caption:
        return caption
    first, inside, last = tag_parts(caption, settings)
    return ", ".join(first + inside + last)


def caption_findings(settings: SubsetOptions) -> Iterator[Finding]:
    """Options of captions that do not do what they are meant for under the others given."""
    dashes = "--" if settings.place.startswith("--") else ""
    if settings.keep_tokens_separator and not settings.moves_tags:
        what = f"{dashes}keep_tokens_separator {settings.keep_tokens_separator} stays in the captions as text, since tags are not shuffled"
        yield Finding(WARNING, f"{settings.place}: {what}", f"set {dashes}shuffle_caption too, or remove it")
    if settings.enable_wildcard and (settings.caption_prefix or settings.caption_suffix):
        what = "in captions with several lines only the first line gets caption_prefix, and only the last caption_suffix"
        yield Finding(NOTE, f"{settings.place}: {what}", "if every line should have them, write them into each line")


@dataclass(frozen=True)
class CaptionFile:
    """`text` is the first line without surrounding blanks; `more` counts the further lines that hold something, which are not read."""

    text: str
    more: int = 0

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> CaptionFile | None:
        """The fact whose fields these are, in their order; None when the values are no such thing."""
        match values:
            case [str(text), int(more)]:
                return cls(text, more)
        return None


@dataclass(frozen=True)
class CaptionLines:
    """Every line of a caption file that holds something, without surrounding blanks: what `enable_wildcard` draws from."""

    text: str

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> CaptionLines | None:
        """The fact whose fields these are, in their order; None when the values are no such thing."""
        match values:
            case [str(text)]:
                return cls(text)
        return None


def read_lines(path: Path) -> CaptionLines:
    """All lines of a UTF-8 file, as `read_caption` reads its first one."""
    return CaptionLines("\n".join(line for line in map(str.strip, _lines(path)) if line))


def read_caption(path: Path) -> CaptionFile:
    """Read a UTF-8 file, with or without a BOM; raises OSError, and UnicodeDecodeError for another encoding."""
    first, *rest = _lines(path)
    return CaptionFile(first.strip(), sum(bool(line.strip()) for line in rest))


def _lines(path: Path) -> list[str]:
    data = read_bytes(path).removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise UnicodeDecodeError("utf-8", data, 0, 2, "UTF-16")
    return data.decode("utf-8").replace("\r", "\n").split("\n")
