"""Which captions are too long for the tokens asked for: found from the options alone, without torch, and told in a run."""

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
    """Each caption that does not fit with the words it loses; `family` is the model's, None where it is not known."""
    given, new_words = options.model, options.new_words
    words = () if new_words is None else new_words.words
    windows = (given.max_token_length or WINDOW) // WINDOW
    distinct = list(dict.fromkeys(captions))
    if not words and all(surely_fits(caption, windows * WINDOW) for caption in distinct):
        return []  # mostly, and it spares transformers, which takes a second to import
    family = family or family_of_flag(given.v2)
    kept = given.tokenizer_cache_dir  # is read, but not filled: who only looks writes nothing
    if kept and not is_folder(Path(kept) / family.reader.tokenizer_folder):
        kept = None
    tokenizer = ClipTokenizer(family, given.max_token_length, options.data.weighted_captions, kept)
    told: set[str] = set()
    for word in words:
        if not is_entry(word.text) and word.text.lower() not in told:  # what cannot be a new word is told elsewhere
            tokenizer = tokenizer.with_word(word.text, word.vectors)
            told.add(word.text.lower())
    return too_long(distinct, tokenizer)


def tell_long_captions(captions: Iterable[str], tokenizer: ClipTokenizer, shown: int = 5) -> None:
    """Warn of captions that do not fit into the tokens asked for, with the words that are lost (SPEC D14)."""
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
