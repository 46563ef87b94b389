"""Underscores in tags: spaces between words, but part of an emoticon."""

from __future__ import annotations

from collections.abc import Collection


def is_emoticon(tag: str) -> bool:
    """Whether the tag is a face such as ^_^, >_<, o_o, (o)_(o), 0_0 or ||_||: at most one letter on each side of one underscore.

    >>> is_emoticon("o_o"), is_emoticon("long_hair"), is_emoticon("k_(project)")
    (True, False, False)
    """
    sides = tag.split("_")
    return len(sides) == 2 and all(sides) and all(sum(sign.isalnum() for sign in side) <= 1 for side in sides)


def without_underscores(tag: str, keep: Collection[str] = ()) -> str:
    """The tag with spaces for underscores, unless it is an emoticon or one of `keep`."""
    return tag if tag in keep or is_emoticon(tag) else tag.replace("_", " ")


def split_tags(text: str, separator: str = ",") -> list[str]:
    """The parts between separators, without surrounding spaces; empty parts are dropped."""
    return [tag for tag in (part.strip() for part in text.split(separator.strip() or separator)) if tag]
