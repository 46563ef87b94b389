"""CLIP's vocabulary from the merges file in this folder; needs no torch, so a word can be checked before anything large loads."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

MERGES = Path(__file__).with_name("clip_merges.txt.gz")
ENTRIES = 49408
WORD_END = "</w>"
_PARTS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")


@cache
def merges() -> tuple[tuple[str, ...], ...]:
    """The pairs to join, in order."""
    with gzip.open(MERGES, "rt", encoding="utf-8") as file:
        return tuple(tuple(line.split()) for line in file)


@cache
def vocabulary() -> dict[str, int]:
    """Every entry and its id: 256 characters for bytes, the same as word ends, the joined pairs, begin and end."""
    characters = _byte_characters()
    entries = [*characters, *(sign + WORD_END for sign in characters), *("".join(pair) for pair in merges())]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    assert len(entries) == ENTRIES
    return {entry: place for place, entry in enumerate(entries)}


def is_entry(word: str) -> bool:
    """Whether the word, in any letter case, is exactly an entry, so that a tokenizer cannot take it as a new word."""
    return word.lower() in vocabulary()


def is_one_token(word: str) -> bool:
    """Whether the word is read as a single token, rare (such as sks) or with a meaning."""
    return word.lower() + WORD_END in vocabulary()


def words_in(text: str, words: Sequence[str]) -> list[str]:
    """The new `words` that occur in the text as whole words, in any letter case, each once, in the order of the text. If one word starts
    with another, the longer one wins, as in the tokenizer."""
    if not words:
        return []
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    by_name = {word.lower(): word for word in words}
    matches = (by_name.get(match.group().lower()) for match in re.finditer(rf"(?<!\w)(?:{either})(?!\w)", text, re.IGNORECASE))
    return list(dict.fromkeys(word for word in matches if word is not None))


def surely_fits(caption: str, room: int) -> bool:
    """Whether the caption certainly has at most `room` tokens, judged without a tokenizer: a word in the vocabulary has one token, any
    other at most one per byte. Not for captions with new words, which may have many tokens."""
    if len(caption.lower().encode("utf-8", "surrogatepass")) <= room:
        return True
    if not caption.isascii():  # which other characters are letters, only the tokenizer knows
        return False
    return sum(map(_most_tokens, caption.lower().split())) <= room


@cache
def _most_tokens(word: str) -> int:
    """For a word in lower-case ASCII letters, split as CLIP's tokenizer does."""
    entries = vocabulary()
    return sum(1 if part + WORD_END in entries else len(part) for part in _PARTS.findall(word))


def _byte_characters() -> list[str]:
    """The 256 characters for bytes in CLIP's vocabulary: printable Latin-1 as itself, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + place) for place in range(others)]
