"""Write into --outdir: a full or unavailable disk gives a one-line error, and images written before stay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from library.errors import UserError, coded
from library.files import is_full
from library.paths.look import shown


@contextlib.contextmanager
def into(folder: Path) -> Iterator[None]:
    """Turn a system error for a file in `folder` into a UserError."""
    try:
        yield
    except OSError as fault:
        remedy = "free some space and start again" if is_full(fault) else "choose another folder"
        message = f"--outdir {shown(folder)}: cannot be written ({fault.strerror or fault}); {remedy}; finished images are kept"
        raise UserError(coded("DISK-004", message)) from fault
