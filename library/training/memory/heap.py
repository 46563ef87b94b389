"""The C library's heap on a CPU: what a step frees is there for the next one, and the system need not hand out empty pages anew."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed, large tensors too; returns whether this system's C library (glibc) does so.

    A step makes and frees the same tensors each time. glibc gives back to the system what is over 128 KiB, and every page of it costs a
    fault when it comes again: a third of the CPU time of a LoRA step of SD v1.5, measured in `benchmarks/RESULTS.md`.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and mallopt(_M_MMAP_MAX, 0) == 1 and mallopt(_M_TRIM_THRESHOLD, _NEVER) == 1
