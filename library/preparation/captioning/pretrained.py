"""Loads captioning models and tokenizers from a folder or the Hub with transformers; errors become one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from library.errors import UserError, coded
from library.paths.look import expanded, is_file


@contextmanager
def loading(option: str, weights: str, kind: str) -> Iterator[None]:
    """Context in which transformers loads a `kind` model from `weights`; any exception becomes a UserError that names `option`.

    transformers builds objects from the settings in a folder, so an unexpected list, number or missing key can raise anything.
    """
    remedy = f"use a folder with a {kind} model in the Hugging Face format, or its name on the Hub and a network"
    if is_file(expanded(Path(weights))):  # transformers would unpickle any file
        raise UserError(coded("TOOL-003", f"{option}: {weights}: is a file and not a folder; {remedy}"))
    try:
        yield
    except Exception as fault:
        reason = " ".join(str(fault).split())[:160]
        if "weights_only" in str(fault):  # torch's advice for such files is not passed on
            reason = "its weights are damaged, or contain code that was not executed"
        raise UserError(coded("TOOL-003", f"{option}: {weights}: cannot be loaded ({reason}); {remedy}")) from None
