"""A kind of refusal, and an area of related kinds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """`code` is the area and a three-digit number; `page` is a page in docs/, with an anchor if one fits."""

    code: str
    meaning: str
    remedy: str
    page: str


@dataclass(frozen=True)
class Area:
    """Related kinds: `name` is the prefix of their codes."""

    name: str
    title: str
    refusals: tuple[Refusal, ...]
