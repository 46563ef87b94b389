"""One kind of refusal, and the areas into which the kinds are sorted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """`code` is the area and a number of three digits; `page` is a page in docs/, with an anchor where one fits."""

    code: str
    meaning: str
    remedy: str
    page: str


@dataclass(frozen=True)
class Area:
    """Kinds that belong together: `name` is how their codes begin."""

    name: str
    title: str
    refusals: tuple[Refusal, ...]
