"""Seeds that depend only on their purpose, so that no random draw depends on earlier ones."""

from __future__ import annotations

import hashlib
import random


def fold(*parts: int | str) -> int:
    """Mix `parts` into one seed in 0 … 2⁶³−1; equal parts give equal seeds on every machine and Python.

    >>> fold(1, "noise") == fold(1, "noise"), fold(1, "noise") == fold(1, "crop")
    (True, False)
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part.to_bytes(16, "little", signed=True)
        # Type and length are included: ("a", "bc") and ("ab", "c") must differ, and so must 1 and "1".
        digest.update(b"s" if isinstance(part, str) else b"i")
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little") & (2**63 - 1)


def python_rng(*parts: int | str) -> random.Random:
    """A separate generator for the draw named by `parts` (crop, caption, …)."""
    return random.Random(fold(*parts))
