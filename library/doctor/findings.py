"""The results of an examination: one line each, with the level ok, note or error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "error"]


@dataclass(frozen=True)
class Finding:
    """One line; `remedy` is the reader's next step, `private` are parts of the text (paths, values) that a report leaves out."""

    level: Level
    text: str
    remedy: str = ""
    private: tuple[str, ...] = ()

    def line(self) -> str:
        """The level, the text, and what to do."""
        return f"{self.level:<7}{one_line(self.text)}" + (f"; {one_line(self.remedy)}" if self.remedy else "")


def ok(text: str, *private: str) -> Finding:
    """A check that passed."""
    return Finding("ok", text, private=private)


def note(text: str, remedy: str = "", *private: str) -> Finding:
    """A note that keeps no run from working."""
    return Finding("note", text, remedy, private)


def fault(text: str, remedy: str, *private: str) -> Finding:
    """An error that keeps runs from working, and how to fix it."""
    assert remedy, "an error needs a remedy"
    return Finding("error", text, remedy, private)


def one_line(text: str, longest: int = 2000) -> str:
    """Return the text without line breaks, truncated if very long."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def named(error: BaseException) -> str:
    """An error in one line, with its class."""
    return one_line(f"{type(error).__name__}: {error}", 300)
