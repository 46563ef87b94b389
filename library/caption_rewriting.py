"""How a method may rewrite the captions of images before training."""

from __future__ import annotations

import random
from collections.abc import Callable

RewriteCaption = Callable[[str, random.Random], str]  # picklable, since loader workers get a copy


def keep_caption(caption: str, rng: random.Random) -> str:
    """Return the caption unchanged."""
    return caption
