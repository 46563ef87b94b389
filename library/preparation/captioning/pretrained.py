"""Captioning models and tokenizers of a folder or the Hub, by transformers: what cannot be loaded is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from library.errors import UserError, coded


@contextmanager
def loading(option: str, weights: str, kind: str) -> Iterator[None]:
    """Inside, transformers loads a `kind` model from `weights`; whatever it raises becomes a UserError that names `option`.

    It builds objects from whatever stands in a folder's settings, so that a list, a number or a missing key there can raise anything.
    """
    try:
        yield
    except Exception as fault:
        reason = " ".join(str(fault).split())[:160]
        remedy = f"use a folder with a {kind} model in the Hugging Face format, or its name on the Hub and a network"
        raise UserError(coded("TOOL-003", f"{option}: {weights}: cannot be loaded ({reason}); {remedy}")) from None
