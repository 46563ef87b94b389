"""When Python looks for objects that only hold one another: seldom, while millions that all stay are being made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_SELDOM = 200_000  # more objects made than freed, before the young ones are looked at; Python's own figure is below 10,000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Inside, cycles are collected seldom. Each look goes through what was made, and a scan of 100,000 images keeps nearly all of it."""
    before = gc.get_threshold()
    if before[0] >= _SELDOM or before[0] == 0:
        yield
        return
    gc.set_threshold(_SELDOM, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
