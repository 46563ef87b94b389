"""Weighted captions: (a) = 1.1, ((a)) = 1.21, [a] = 1/1.1, (a:1.23), nested; a backslash makes a bracket literal: `\\(`."""

from __future__ import annotations

import re

UP = 1.1  # weight of one pair of round brackets
DOWN = 1 / 1.1  # weight of one pair of square brackets
LARGEST = 1000.0  # of any weight, also of nested brackets: half precision ends at 65,504

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
    open_at: list[tuple[str, int]] = []  # open brackets, and the index of their literal text
    is_open = {"(": 0, "[": 0}  # how many of each kind
    inside: dict[int, tuple[int, float]] = {}  # index of a closed pair's first text -> index after its last, and its weight
    add = texts.append

    def close(bracket: str, factor: float, literal: str) -> None:
        if not is_open[bracket]:
            add(literal)
            return
        opened = ""
        while opened != bracket:  # an unclosed bracket of the other kind stays literal
            opened, first = open_at.pop()
            is_open[opened] -= 1
        texts[first] = ""
        inside[first] = len(texts), factor

    for piece in _PIECE.findall(caption):
        if piece in "([":
            open_at.append((piece, len(texts)))
            is_open[piece] += 1
            add(piece)
        elif piece == ")":
            close("(", UP, piece)
        elif piece == "]":
            close("[", DOWN, piece)
        elif piece.startswith(":") and piece.endswith(")"):
            close("(", float(piece[1:-1]), piece)
        elif len(piece) == 2 and piece[0] == "\\":
            add(piece[1])
        else:
            add(piece)
    return _joined(texts, _weights(len(texts), inside))


def _weights(count: int, inside: dict[int, tuple[int, float]]) -> list[float]:
    """The weight of each text: the product of the pairs around it."""
    weights = []
    around = [(count, 1.0)]  # the pairs that are open here: where each ends, and the product up to it
    for place in range(count):
        while around[-1][0] <= place:
            around.pop()
        if place in inside:
            end, factor = inside[place]
            around.append((end, max(-LARGEST, min(LARGEST, around[-1][1] * factor))))
        weights.append(around[-1][1])
    return weights


def _joined(texts: list[str], weights: list[float]) -> list[tuple[str, float]]:
    """Join neighbours of the same weight, without empty texts."""
    result: list[tuple[str, float]] = []
    for text, weight in zip(texts, weights, strict=True):
        if not text:
            continue
        if result and result[-1][1] == weight:
            result[-1] = (result[-1][0] + text, weight)
        else:
            result.append((text, weight))
    return result
