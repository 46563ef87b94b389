"""Weighted captions: (a) = 1.1, ((a)) = 1.21, [a] = 1/1.1, (a:1.23), nested; a backslash makes a bracket literal: `\\(`."""

from __future__ import annotations

import re

UP = 1.1  # weight of one pair of round brackets
DOWN = 1 / 1.1  # weight of one pair of square brackets
MOST = 1000.0  # a weight beyond it counts as this: thousands of brackets would make numbers that are not finite

_PIECE = re.compile(
    r"""\\[\\()\[\]]                                   # an escaped sign
    | [(\[\]]                                          # a bracket that opens, or a square one that closes
    | :\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)\s*\)            # an own weight, closing a round bracket
    | \)
    | [^\\()\[\]:]+ | . """,
    re.VERBOSE | re.DOTALL,
)


def parse(caption: str) -> list[tuple[str, float]]:
    """Split `caption` into texts and their weights; malformed weights and brackets stay literal text.

    >>> parse("a (cat:1.5) on [grass")
    [('a ', 1.0), ('cat', 1.5), (' on [grass', 1.0)]
    """
    texts: list[str] = []
    weights: list[float] = []
    open_at: list[tuple[str, int]] = []  # open brackets, and the index of their literal text

    def add(text: str) -> None:
        texts.append(text)
        weights.append(1.0)

    def close(bracket: str, factor: float, literal: str) -> None:
        if not any(sign == bracket for sign, _ in open_at):
            add(literal)
            return
        while (opened := open_at.pop())[0] != bracket:
            pass  # an unclosed bracket of the other kind stays literal
        texts[opened[1]] = ""
        for place in range(opened[1], len(weights)):
            weights[place] *= factor

    for piece in _PIECE.findall(caption):
        if piece in "([":
            open_at.append((piece, len(texts)))
            add(piece)
        elif piece == ")":
            close("(", UP, piece)
        elif piece == "]":
            close("[", DOWN, piece)
        elif piece.startswith(":") and piece.endswith(")"):
            if any(sign == "(" for sign, _ in open_at):
                close("(", float(piece[1:-1]), piece)
            else:
                add(piece)
        elif len(piece) == 2 and piece[0] == "\\":
            add(piece[1])
        else:
            add(piece)
    return _joined(texts, weights)


def _joined(texts: list[str], weights: list[float]) -> list[tuple[str, float]]:
    """Join neighbours of the same weight, without empty texts."""
    result: list[tuple[str, float]] = []
    for text, weight in zip(texts, weights, strict=True):
        if not text:
            continue
        weight = max(-MOST, min(MOST, weight))
        if result and result[-1][1] == weight:
            result[-1] = (result[-1][0] + text, weight)
        else:
            result.append((text, weight))
    return result
