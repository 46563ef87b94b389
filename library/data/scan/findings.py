"""Findings about images, captions and settings: level, text and remedy."""

from __future__ import annotations

from dataclasses import dataclass

ERROR = "error"  # the run does not start
WARNING = "warning"  # the run starts, but probably not as intended
NOTE = "note"  # for information
LEVELS = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """One finding. `files` are all files concerned; the text names only the first ones."""

    level: str
    text: str
    remedy: str
    files: tuple[str, ...] = ()

    @classmethod
    def from_line(cls, level: str, line: str, files: tuple[str, ...] = ()) -> Finding:
        """Build from the line of a user error; the text after its last semicolon is the remedy."""
        text, _, remedy = line.rpartition("; ")
        return cls(level, text, remedy, files) if text else cls(level, line, "", files)

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text
