"""RESULTS.md: rows that land at the ends of their tables, and the name of the machine in them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


def machine(note: str) -> str:
    """The last cell of a row: processor, cores, and what else ran."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores" + (f"; {note}" if note else "")


def add_rows(rows: list[str], end: str) -> None:
    """Put rows before the mark `end`, which stands below their table."""
    text = RESULTS.read_text(encoding="utf-8")
    assert end in text, f"{RESULTS.name} has no {end}"
    RESULTS.write_text(text.replace(end, "\n".join([*rows, end])), encoding="utf-8", newline="\n")
