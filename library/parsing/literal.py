"""Parses Python literals: numbers, texts, lists, tables."""

from __future__ import annotations

import ast
import warnings

from library.parsing.bounds import check_bounds, spelled_too_long, too_deep


def parse_literal(text: str) -> object:
    """The value of a Python literal. Raises ValueError for anything else, TooMuch for deep nesting or too large a number."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about a backslash in a text
            value = ast.literal_eval(text)
    except (RecursionError, MemoryError):
        raise too_deep() from None
    except (SyntaxError, TypeError, ValueError) as fault:
        if "nested" in str(fault):  # nested parentheses
            raise too_deep() from None
        raise spelled_too_long(text, fault) or ValueError(f"not a Python value ({type(fault).__name__})") from None
    check_bounds(value)
    return value
