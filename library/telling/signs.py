"""Signs that a terminal obeys instead of showing, spelled out: names and captions of others may hold them."""

from __future__ import annotations

import re

# C0 but tab and newline, DEL and C1; line and paragraph separator; marks that turn the direction of reading
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_OBEYED_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: str, keep: str = "") -> str:
    """`text` with every sign that a terminal would obey spelled out (`\\x1b`), but newlines, tabs and those in `keep`."""
    return _OBEYED.sub(lambda found: found[0] if found[0] in keep else _spelled(found[0]), text)


def plain_line(text: str) -> str:
    """The same for what has to stay one line: newlines and tabs are spelled out too."""
    return _OBEYED_IN_A_LINE.sub(lambda found: _spelled(found[0]), text)


def _spelled(sign: str) -> str:
    """As Python and JSON write it; those that JSON leaves as they are (DEL, C1, marks of direction) in the form that JSON reads back."""
    return ascii(sign)[1:-1] if sign < " " else f"\\u{ord(sign):04x}"
