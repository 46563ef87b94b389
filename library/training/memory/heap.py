"""Makes the C library keep freed memory on a CPU, so that the next step reuses it instead of fetching empty pages from the system."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed, large tensors too; return whether this system's C library (glibc) does so.

    A step allocates and frees the same tensors each time. glibc returns what is over 128 KiB to the system, which then has to map each page
    again: a third of the CPU time of a LoRA step of SD v1.5, measured in `benchmarks/RESULTS.md`.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # missing in musl
    return mallopt is not None and mallopt(_M_MMAP_MAX, 0) == 1 and mallopt(_M_TRIM_THRESHOLD, _NEVER) == 1
