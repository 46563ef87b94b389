"""Escape control characters, which a terminal would execute: names and captions from others may contain them."""

from __future__ import annotations

import re

# C0 except tab and newline, DEL and C1; line and paragraph separator; marks that change the direction of reading
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_OBEYED_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: str, keep: str = "") -> str:
    """Escape every control character in `text` (`\\x1b`), except newlines, tabs and those in `keep`."""
    return _OBEYED.sub(lambda match: match[0] if match[0] in keep else _spelled(match[0]), text)


def plain_line(text: str) -> str:
    """As `plain`, for text that must stay one line: escapes newlines and tabs too."""
    return _OBEYED_IN_A_LINE.sub(lambda match: _spelled(match[0]), text)


def _spelled(sign: str) -> str:
    """Escape as Python and JSON do; what JSON does not escape (DEL, C1, direction marks) in a form that JSON can read."""
    return ascii(sign)[1:-1] if sign < " " else f"\\u{ord(sign):04x}"
