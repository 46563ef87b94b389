"""Environment variables that a package reads and cannot use: named in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from library.errors import UserError, coded
from library.words import quoted

_READ = (
    "ACCELERATE_",
    "CUDA_",
    "DIFFUSERS_",
    "FSDP_",
    "HF_",
    "NCCL_",
    "OMP_",
    "PARALLELISM_",
    "PYTORCH_",
    "TORCH",
    "TRANSFORMERS_",
    "USE_",
)
_SHORTEST = 2  # characters of a value that a message is searched for


@contextmanager
def variables_named() -> Iterator[None]:
    """Inside, packages read their variables; a ValueError that quotes the value of one of them becomes a UserError with its name."""
    try:
        yield
    except ValueError as fault:
        text = str(fault).lower()
        values = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_READ)}
        blamed = [name for name, value in values.items() if len(value.strip()) >= _SHORTEST and value.strip().lower() in text]
        if not blamed:
            raise
        lines = [
            f"environment variable {name}={quoted(values[name])}: the package that reads it cannot use it; unset it" for name in blamed
        ]
        raise UserError(*(coded("OPT-006", line) for line in lines)) from fault
