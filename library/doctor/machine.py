"""The machine itself: main memory, and the encoding of the output."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

from library.doctor.findings import Finding, named, note, ok
from library.words import in_words

_LITTLE = 8 << 30  # bytes of main memory; loading a 1.x model in float32 takes half of that
_LITTLE_FREE = 3 << 30


def judge_memory(total_and_free: tuple[int, int] | None = None) -> Finding:
    """Judge the main memory in bytes, measured by psutil if None."""
    if total_and_free is None:
        try:
            memory = importlib.import_module("psutil").virtual_memory()
            total_and_free = int(memory.total), int(memory.available)
        except Exception as reason:  # psutil is missing or damaged
            return note(f"main memory is unknown ({named(reason)})", "install the requirements first")
    total, free = total_and_free
    figures = f"main memory: {in_words(total)}, {in_words(free)} free"
    if free < _LITTLE_FREE or total < _LITTLE:
        return note(f"{figures}, which is too little to load some models", "close other programs, or enable a page file or swap")
    return ok(figures)


def judge_encodings() -> Iterator[Finding]:
    """Check the encodings of output and file names: only UTF-8 supports all characters."""
    names = {
        "output": getattr(sys.stdout, "encoding", None) or "no encoding",
        "file names": sys.getfilesystemencoding(),
    }
    for what, encoding in names.items():
        if encoding.lower().replace("-", "").replace("_", "") not in ("utf8", "cp65001"):
            yield note(f"the encoding of {what} is {encoding}, which lacks characters", "set PYTHONUTF8=1 (on Linux LANG=C.UTF-8)")
            return
    yield ok("output and file names are in UTF-8")
