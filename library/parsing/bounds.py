"""How deep and how large what a text holds may be, so that nothing that reads on runs out of stack or chokes on a number."""

from __future__ import annotations

import re

MOST_LEVELS = 100  # of tables and lists within one another; those of configs, states and metadata are below 10
MOST_DIGITS = 300  # a decimal point number ends at 308, and Python spells no whole number of over 4,300
_MOST_BITS = 997  # of a whole number of so many digits
_NUMBER = re.compile(rb"[0-9_]{1000,}")
_PLAIN = frozenset({str, float, bool, type(None)})  # neither hold values nor are numbers of many digits


class TooMuch(ValueError):
    """A text of valid form that no file of its kind holds; says so for the end of a line, with the remedy. `what` is it without."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what


def too_deep() -> TooMuch:
    """For tables or lists within one another without an end."""
    return TooMuch(f"is nested too deeply (over {MOST_LEVELS} tables or lists within one another)", "remove the extra brackets")


def too_many_digits(count: int) -> TooMuch:
    """For a whole number that no value is."""
    return TooMuch(f"has a number with {count:,} digits, and no value has over {MOST_DIGITS}", "correct it")


def spelled_too_long(text: str | bytes, fault: Exception) -> TooMuch | None:
    """The fault in words where Python gave up on a number of thousands of digits; None where it is another."""
    if "integer string conversion" not in str(fault):
        return None
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return too_many_digits(max((len(number.replace(b"_", b"")) for number in _NUMBER.findall(data)), default=MOST_DIGITS + 1))


def check_bounds(tree: object) -> None:
    """Raise TooMuch where a parsed value, tables and lists included, is deeper or holds larger numbers than any is."""
    level, depth = [tree], 0
    while level:
        below: list[object] = []
        deeper = False
        for one in level:
            if type(one) in _PLAIN:  # most of any tree
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
