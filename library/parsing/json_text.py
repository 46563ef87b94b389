"""JSON text to values."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from library.parsing.bounds import TooMuch, check_bounds, spelled_too_long, too_deep

JsonFault = json.JSONDecodeError  # a text that is no JSON: `msg`, `lineno`, `colno`, `pos`


def parse_json(text: str | bytes, table: Callable[[list[tuple[str, object]]], object] | None = None) -> Any:
    """The value of a JSON text; `table` makes each of its tables out of (key, value) pairs.

    Raises JsonFault for another syntax, TooMuch for what is nested too deeply or holds a number of hundreds of digits, and
    UnicodeDecodeError for bytes that are no text: all of them ValueError.
    """
    try:
        tree = json.loads(text, object_pairs_hook=table)
    except RecursionError:
        raise too_deep() from None
    except ValueError as fault:
        raise spelled_too_long(text, fault) or fault from None
    check_bounds(tree)
    return tree


def is_json(text: str) -> bool:
    """Whether a text is a JSON value."""
    try:
        parse_json(text)
    except TooMuch:
        return True
    except ValueError:
        return False
    return True
