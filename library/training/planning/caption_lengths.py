"""Finds captions that are too long for the requested tokens, from the options alone and without torch; warns of them in a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from library.console import log
from library.model.family import ModelFamily, family_of_flag
from library.model.text.tokenizer import WINDOW, ClipTokenizer, too_long
from library.model.text.vocabulary import is_entry, surely_fits
from library.options.groups.scripts import TrainingScript
from library.paths.look import is_folder
from library.words import counted


def long_captions(options: TrainingScript, captions: Iterable[str], family: ModelFamily | None) -> list[tuple[str, str]]:
    """Each caption that does not fit, with the words it loses; `family` is the model's, None if it is not known."""
    model_options, new_words = options.model, options.new_words
    words = () if new_words is None else new_words.words
    windows = (model_options.max_token_length or WINDOW) // WINDOW
    distinct = list(dict.fromkeys(captions))
    if not words and all(surely_fits(caption, windows * WINDOW) for caption in distinct):
        return []  # the usual case, which avoids importing transformers (a second)
    family = family or family_of_flag(model_options.v2)
    cache_dir = model_options.tokenizer_cache_dir  # only read: a check writes nothing
    if cache_dir and not is_folder(Path(cache_dir) / family.reader.tokenizer_folder):
        cache_dir = None
    tokenizer = ClipTokenizer(family, model_options.max_token_length, options.data.weighted_captions, cache_dir)
    added: set[str] = set()
    for word in words:
        if not is_entry(word.text) and word.text.lower() not in added:  # `check_words` reports invalid new words
            tokenizer = tokenizer.with_word(word.text, word.vectors)
            added.add(word.text.lower())
    return too_long(distinct, tokenizer)


def tell_long_captions(captions: Iterable[str], tokenizer: ClipTokenizer, shown: int = 5) -> None:
    """Warn of captions that do not fit into the requested tokens, with the words that are lost (SPEC D14)."""
    lost = too_long(captions, tokenizer)
    if not lost:
        return
    examples = "; ".join(f"“{caption[:30]}…” loses “{words[:80]}{'…' if len(words) > 80 else ''}”" for caption, words in lost[:shown])
    more = f" and {len(lost) - shown} more" if len(lost) > shown else ""
    room = tokenizer.windows * WINDOW
    log.warning(
        f"--max_token_length {room}: {counted(len(lost), 'caption is', 'captions are')} longer: {examples}{more}; {remedy_of_length(room)}"
    )


def remedy_of_length(room: int) -> str:
    """What to do about captions of more than `room` tokens."""
    larger = " or ".join(str(tokens) for tokens in (150, 225) if tokens > room)
    return f"set --max_token_length {larger}, or shorten them" if larger else "shorten them"
