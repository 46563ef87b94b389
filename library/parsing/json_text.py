"""Parses JSON text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from library.parsing.bounds import TooMuch, check_bounds, spelled_too_long, too_deep

JsonFault = json.JSONDecodeError  # invalid JSON: `msg`, `lineno`, `colno`, `pos`


def parse_json(text: str | bytes, table: Callable[[list[tuple[str, object]]], object] | None = None) -> Any:
    """The value of a JSON text; `table` builds each of its tables from (key, value) pairs.

    Raises JsonFault for invalid syntax, TooMuch for deep nesting or a number of hundreds of digits, UnicodeDecodeError for bytes that are
    not text. All are ValueErrors.
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
    """Whether a text is valid JSON."""
    try:
        parse_json(text)
    except TooMuch:
        return True
    except ValueError:
        return False
    return True
