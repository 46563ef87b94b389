"""Which captions are too long for the tokens asked for, known from the options alone, without torch."""

from __future__ import annotations

from collections.abc import Iterable

from library.model.tokenizer import WINDOW, ClipTokenizer, too_long
from library.options.declare import Script, values_of


def long_captions(options: Script, captions: Iterable[str], version: str | None) -> list[tuple[str, str]]:
    """Each caption that does not fit with the words it loses; `version` of the model is "v1", "v2" or None, if that is not known."""
    values = values_of(options)
    word = (values.get("token_string") or "").strip()
    windows = (values["max_token_length"] or WINDOW) // WINDOW
    distinct = list(dict.fromkeys(captions))
    # a token is one byte at least, unless it is a new word that stands for several: mostly there is nothing to read a vocabulary for
    if not word and all(len(caption.lower().encode()) <= windows * WINDOW for caption in distinct):
        return []
    version = version or ("v2" if values["v2"] else "v1")
    tokenizer = ClipTokenizer(version, values["max_token_length"], bool(values.get("weighted_captions")), values["tokenizer_cache_dir"])
    return too_long(distinct, tokenizer.with_word(word, values["num_vectors_per_token"]) if word else tokenizer)
