"""Words of a command line as text that a user can paste into a shell."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

_SAFE = re.compile(r"[\w./:+=-]+")
_EXPANDED = re.compile('[$`"“”„]')  # cmd has no way to write ", PowerShell also takes typographic quotes for quotes
_SINGLE_QUOTES = re.compile("(['‘’‚‛])")


def shell_word(word: str | Path, windows: bool = os.name == "nt") -> str:
    """The word as bash, PowerShell and cmd read it back, between double quotes if it needs quotes.

    Where no form suits all of them, it is that of bash, or with `windows` that of PowerShell.
    """
    text = str(word)
    if _SAFE.fullmatch(text):
        return text
    if not windows:
        return shlex.quote(text) if re.search(r'[$`"!\\“”„]', text) or not text.isprintable() else f'"{text}"'
    if _EXPANDED.search(text):
        return "'" + _SINGLE_QUOTES.sub(r"\1\1", text) + "'"
    return f'"{text}{chr(92) if text.endswith(chr(92)) else ""}"'  # a backslash before the closing quote would escape it
