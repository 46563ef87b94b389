"""Caption files: reads the first line or all lines, reports other findings, and splits captions into parts."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from library.data.config.blueprint import SubsetOptions
from library.data.scan.findings import NOTE, WARNING, Finding
from library.paths.opening import read_bytes

LARGEST_FILE = 1 << 26  # bytes of a file of captions
LONGEST_CAPTION = 100_000  # characters of a line: a text encoder reads 225 tokens at most, and megabytes take minutes to split into tokens


def length_fault(text: str) -> str | None:
    """Why a text with one or more captions, one in each line, is too long to be trained with, or None."""
    longest = max(map(len, text.split("\n")))
    if longest <= LONGEST_CAPTION:
        return None
    return f"has a line of {longest} characters; at most {LONGEST_CAPTION} are allowed: shorten it"


def split_tags(caption: str, separator: str = ",") -> list[str]:
    """The parts of a caption between separators, without surrounding spaces; empty parts are dropped."""
    return [tag for tag in (part.strip() for part in caption.split(separator)) if tag]


def with_affixes(caption: str, settings: SubsetOptions) -> str:
    """`caption_prefix`, caption and `caption_suffix`, joined by spaces; applied before a line is chosen from several."""
    before = f"{settings.caption_prefix} " if settings.caption_prefix else ""
    return before + caption + (f" {settings.caption_suffix}" if settings.caption_suffix else "")


def tag_parts(caption: str, settings: SubsetOptions) -> tuple[list[str], list[str], list[str]]:
    """The tags before, inside and after a pair of `keep_tokens_separator`.

    Without a separator all tags are inside; with only one, the tags after it.
    """
    parts = caption.split(settings.keep_tokens_separator, 2) if settings.keep_tokens_separator else [caption]
    if len(parts) == 1:
        return [], split_tags(caption, settings.caption_separator), []
    first, inside, *last = (split_tags(part, settings.caption_separator) for part in parts)
    return first, inside, last[0] if last else []


def in_order(caption: str, settings: SubsetOptions) -> str:
    """The caption without `keep_tokens_separator`, tags in their order; unchanged if it contains none."""
    if not settings.keep_tokens_separator or settings.keep_tokens_separator not in caption:
        return caption
    first, inside, last = tag_parts(caption, settings)
    return ", ".join(first + inside + last)


def caption_findings(settings: SubsetOptions) -> Iterator[Finding]:
    """Findings on caption options that have no effect, or an unexpected one, with the other options."""
    dashes = "--" if settings.place.startswith("--") else ""
    if settings.keep_tokens_separator and not settings.moves_tags:
        what = f"{dashes}keep_tokens_separator {settings.keep_tokens_separator} stays in the captions as text, since tags are not shuffled"
        yield Finding(WARNING, f"{settings.place}: {what}", f"set {dashes}shuffle_caption too, or remove it")
    if settings.enable_wildcard and (settings.caption_prefix or settings.caption_suffix):
        what = "in captions with several lines only the first line gets caption_prefix, and only the last caption_suffix"
        yield Finding(NOTE, f"{settings.place}: {what}", "if every line should have them, write them into each line")


@dataclass(frozen=True)
class CaptionFile:
    """`text` is the first line without surrounding spaces; `more` counts the other lines with text, which are ignored."""

    text: str
    more: int = 0

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> CaptionFile | None:
        """The fact with these fields, in order; None if the values are invalid."""
        match values:
            case [str(text), int(more)]:
                return cls(text, more)
        return None


@dataclass(frozen=True)
class CaptionLines:
    """All lines of a caption file with text, without surrounding spaces; `enable_wildcard` chooses one."""

    text: str

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> CaptionLines | None:
        """The fact with these fields, in order; None if the values are invalid."""
        match values:
            case [str(text)]:
                return cls(text)
        return None


def read_lines(path: Path) -> CaptionLines:
    """All lines of a UTF-8 file, read like the first one in `read_caption`."""
    return CaptionLines("\n".join(line for line in map(str.strip, _lines(path)) if line))


def read_caption(path: Path) -> CaptionFile:
    """Read a UTF-8 file with or without BOM. Raises OSError, and UnicodeDecodeError for another encoding."""
    first, *rest = _lines(path)
    return CaptionFile(first.strip(), sum(bool(line.strip()) for line in rest))


def _lines(path: Path) -> list[str]:
    data = read_bytes(path, LARGEST_FILE).removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise UnicodeDecodeError("utf-8", data, 0, 2, "UTF-16")
    return data.decode("utf-8").replace("\r", "\n").split("\n")
