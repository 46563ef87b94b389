"""Parses TOML text."""

from __future__ import annotations

import json
import re
from typing import Any

from library.parsing.bounds import MOST_LEVELS, check_bounds, spelled_too_long, too_deep

_PIECES = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*|[\[\]{}]', re.DOTALL)


CLASH = "one name is used as a table and as a list or a value"
_TWICE = re.compile(r"What\? (.*?) already exists\?", re.DOTALL)  # the parser adds the whole table


class TomlFault(ValueError):
    """Invalid TOML: `reason` is the parser's message, `line` the line number if known."""

    def __init__(self, reason: str, line: int | None) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises TomlFault for invalid syntax, TooMuch for deep nesting or a number of hundreds of digits; both are ValueErrors.
    """
    import toml

    _check_brackets(text)
    try:
        tree: dict[str, Any] = toml.loads(text)
    except RecursionError:
        raise too_deep() from None
    except (toml.TomlDecodeError, AttributeError, IndexError, KeyError, TypeError, ValueError) as fault:  # some are bugs of toml
        if too_long := spelled_too_long(text, fault):
            raise too_long from None
        line = getattr(fault, "lineno", None)
        raise TomlFault(_reason(fault), line if isinstance(line, int) else None) from None
    check_bounds(tree)
    return tree


def _reason(fault: Exception) -> str:
    """The parser's message, without words of Python."""
    if not isinstance(fault, ValueError):
        return CLASH if isinstance(fault, AttributeError | KeyError | TypeError) else "an entry is incomplete"
    text = str(getattr(fault, "msg", fault))
    twice = _TWICE.match(text)
    return f"{twice[1]} already exists" if twice else text


def lacks_quotes(line: str) -> bool:
    """Whether the value of a line is text without quotes, such as a path: no number, date, list or table, and neither true nor false."""
    name, equals, value = line.partition("=")
    value = value.split("#")[0].strip()
    if not equals or not name.strip() or not value or value in ("true", "false", "inf", "nan") or value[0] in "\"'[{":
        return False
    return not re.fullmatch(r"[+-]?[\d.][\w.+:-]*|[+-](?:inf|nan)|\d{4}-\d\d-\d\d[ T][\d:.Z+-]+", value)


QUOTE_TEXT = "text such as a path needs quotes: image_dir = 'C:\\photos'"


def toml_string(text: str) -> str:
    """The text as a TOML string: as it is between single quotes where possible, otherwise with escapes between double quotes."""
    return f"'{text}'" if "'" not in text and text.isprintable() else escaped_string(text)


def escaped_string(text: str) -> str:
    """The text as a TOML string between double quotes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_brackets(text: str) -> None:
    """Refuse deep nesting early: the parser's time grows with the square of the depth."""
    depth = 0
    for piece in _PIECES.finditer(text):
        if piece[0] in "[{":
            depth += 1
            if depth > MOST_LEVELS:
                raise too_deep()
        elif piece[0] in "]}":
            depth = max(0, depth - 1)
