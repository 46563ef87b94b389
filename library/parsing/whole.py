"""Parses non-negative integers in texts from elsewhere: counts, sides, positions in a name."""

from __future__ import annotations

_MOST_DIGITS = 18  # more than any count has; Python refuses 4,301


def whole_number(text: str) -> int | None:
    """The integer in a text of decimal digits, ignoring surrounding spaces; None for anything else, and for more digits than a count has.

    >>> whole_number(" 512 "), whole_number("-1"), whole_number("5.0"), whole_number("9" * 5000)
    (512, None, None, None)
    """
    digits = text.strip()
    return int(digits) if digits.isdecimal() and len(digits) <= _MOST_DIGITS else None
