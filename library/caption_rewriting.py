"""What a method may make of the captions of images before they are trained with."""

from __future__ import annotations

import random
from collections.abc import Callable

RewriteCaption = Callable[[str, random.Random], str]  # picklable, since loader workers get a copy


def keep_caption(caption: str, rng: random.Random) -> str:
    """Captions as they are."""
    return caption
