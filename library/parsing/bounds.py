"""Limits for depth and size of parsed values, so that no later code overflows the stack or fails on a huge number."""

from __future__ import annotations

import re

MOST_LEVELS = 100  # nesting of tables and lists; configs, states and metadata have less than 10
MOST_DIGITS = 300  # a float ends at 308, and Python does not print integers of over 4,300
_MOST_BITS = 997  # bits of an integer with that many digits
_NUMBER = re.compile(rb"[0-9_]{1000,}")
_PLAIN = frozenset({str, float, bool, type(None)})  # contains no other values and no long numbers


class TooMuch(ValueError):
    """A valid text that exceeds the limits. The message is the end of a line, with the remedy; `what` is the reason alone."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


def too_deep() -> TooMuch:
    """For unbounded nesting of tables or lists."""
    return TooMuch(f"is nested too deeply (over {MOST_LEVELS} tables or lists within one another)", "remove the extra brackets")


def too_many_digits(count: int) -> TooMuch:
    """For an integer with too many digits."""
    return TooMuch(f"has a number with {count:,} digits, and no value has over {MOST_DIGITS}", "correct it")


def spelled_too_long(text: str | bytes, fault: Exception) -> TooMuch | None:
    """The error if Python refused to parse a number of thousands of digits, else None."""
    if "integer string conversion" not in str(fault):
        return None
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return too_many_digits(max((len(number.replace(b"_", b"")) for number in _NUMBER.findall(data)), default=MOST_DIGITS + 1))


def check_bounds(tree: object) -> None:
    """Raise TooMuch if a parsed value, including nested tables and lists, is too deep or contains too large a number."""
    level, depth = [tree], 0
    while level:
        below: list[object] = []
        deeper = False
        for one in level:
            if type(one) in _PLAIN:  # the most common case
                continue
            if isinstance(one, dict):
                below.extend(one.values())
                deeper = True
            elif isinstance(one, list | tuple | set):
                below.extend(one)
                deeper = True
            elif type(one) is int and one.bit_length() > _MOST_BITS:
                raise too_many_digits(_digits(one))
        depth += deeper
        if depth > MOST_LEVELS:
            raise too_deep()
        level = below


def _digits(number: int) -> int:
    digits = int(number.bit_length() * 0.30103)
    return digits + (abs(number) >= int(10**digits))
