"""`enable_wildcard`: picks one line of a text and one part of each `{a|b}`, with an independent random choice for each."""

from __future__ import annotations

import re
from collections.abc import Callable

from library.seeds import python_rng

_WILDCARD = re.compile(r"\{([^}]+)\}")
# Replacements for {{ and }} during the search for wildcards: code points that Unicode leaves unassigned.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


def drawn_text(text: str, seed: int) -> str:
    """The text of the showing with this seed: one line of `text` with a part chosen for each wildcard, and `{{` replaced by `{`."""
    lines = text.split("\n")
    line = python_rng(seed, "caption line").choice(lines) if len(lines) > 1 else text
    return replaced(line, python_rng(seed, "wildcard").choice)


def replaced(line: str, choose: Callable[[list[str]], str]) -> str:
    """`line` with each wildcard `{a|b}` replaced by the part that `choose` picks from the list, from left to right.

    >>> replaced("a {red|blue} dog, {{x}}", lambda parts: parts[-1])
    'a blue dog, {x}'
    """
    covered = line.replace("{{", _OPEN).replace("}}", _CLOSE)
    drawn = _WILDCARD.sub(lambda match: choose(match[1].split("|")), covered)
    return drawn.replace(_OPEN, "{").replace(_CLOSE, "}")
