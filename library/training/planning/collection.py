"""Makes Python look for reference cycles rarely while it creates millions of objects that all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_SELDOM = 200_000  # allocations minus deallocations that start a collection; Python's default is below 10,000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Inside, cycles are collected rarely: a collection visits all new objects, and a scan of 100,000 images keeps nearly all."""
    before = gc.get_threshold()
    if before[0] >= _SELDOM or before[0] == 0:
        yield
        return
    gc.set_threshold(_SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
