"""What was found about images, captions and settings: how grave it is, what it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

ERROR = "error"  # the run does not start
WARNING = "warning"  # it starts, and is probably not what was meant
NOTE = "note"  # good to know
LEVELS = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Finding:
    """One thing found. `files` are all that it is about, of which the text names the first."""

    level: str
    text: str
    remedy: str
    files: tuple[str, ...] = ()

    @classmethod
    def from_line(cls, level: str, line: str, files: tuple[str, ...] = ()) -> Finding:
        """A user fault's line, which ends in its remedy behind the last semicolon."""
        text, _, remedy = line.rpartition("; ")
        return cls(level, text, remedy, files) if text else cls(level, line, "", files)

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}" if self.remedy else self.text
