"""Loads captioning models and tokenizers from a folder or the Hub with transformers; errors become one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from library.errors import UserError, coded


@contextmanager
def loading(option: str, weights: str, kind: str) -> Iterator[None]:
    """Context in which transformers loads a `kind` model from `weights`; any exception becomes a UserError that names `option`.

    transformers builds objects from the settings in a folder, so an unexpected list, number or missing key can raise anything.
    """
    try:
        yield
    except Exception as fault:
        reason = " ".join(str(fault).split())[:160]
        remedy = f"use a folder with a {kind} model in the Hugging Face format, or its name on the Hub and a network"
        raise UserError(coded("TOOL-003", f"{option}: {weights}: cannot be loaded ({reason}); {remedy}")) from None
