"""What `enable_wildcard` makes of a text: one line of several, and of `{a|b}` one of its parts, each draw of a name of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from library.seeds import python_rng

_WILDCARD = re.compile(r"\{([^}]+)\}")
# What {{ and }} are while wildcards are looked for: code points that Unicode keeps free of characters.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"


def drawn_text(text: str, seed: int) -> str:
    """The text of the draw with this seed: a line of `text`, every wildcard of it replaced by one of its parts, `{{` by `{`."""
    lines = text.split("\n")
    line = python_rng(seed, "caption line").choice(lines) if len(lines) > 1 else text
    return replaced(line, python_rng(seed, "wildcard").choice)


def replaced(line: str, choose: Callable[[list[str]], str]) -> str:
    """`line` with each wildcard `{a|b}` replaced by the part that `choose` takes of its list, from left to right.

    >>> replaced("a {red|blue} dog, {{x}}", lambda parts: parts[-1])
    'a blue dog, {x}'
    """
    covered = line.replace("{{", _OPEN).replace("}}", _CLOSE)
    drawn = _WILDCARD.sub(lambda found: choose(found[1].split("|")), covered)
    return drawn.replace(_OPEN, "{").replace(_CLOSE, "}")
