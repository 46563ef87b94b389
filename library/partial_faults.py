"""What a tool could not do: collected while it continues, and shown at the end, one line each, with exit code 1."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from library.errors import PartlyDone, Problem, UserError, coded
from library.paths.writing import may_write
from library.renaming import is_too_long
from library.words import counted

_MOST_LINES = 50


@dataclass
class Faults:
    """Lines for the user, one per file; `folders` counts files that could not be written, by folder and reason."""

    lines: list[Problem] = field(default_factory=list)
    folders: Counter[tuple[Path, str]] = field(default_factory=Counter)

    def add(self, line: Problem) -> None:
        """Add a line that names a file, what is wrong and the remedy."""
        self.lines.append(line)

    def not_written(self, path: Path, fault: OSError) -> None:
        """Record that `path` could not be written; a folder that cannot be written is reported once.

        `path` may be the image next to which the file belongs.
        """
        if is_too_long(fault):
            self.add(
                coded("PATH-008", f"{path}: its output is not written, since the name would be too long for this file system; rename it")
            )
            return
        self.folders[path.parent, fault.strerror or str(fault)] += 1

    def shown(self) -> list[Problem]:
        """The lines to show; only the first _MOST_LINES of many."""
        lines = self.lines[:_MOST_LINES]
        if len(self.lines) > _MOST_LINES:
            lines.append(lines[-1].reworded(f"… and {counted(len(self.lines) - _MOST_LINES, 'more line')} like these"))
        for (folder, reason), count in self.folders.items():
            lines.append(
                coded(
                    "PATH-005",
                    f"{folder}: {counted(count, 'file')} not written there ({reason}); make the folder writable and run this again",
                )
            )
        return lines

    def raise_if_any(self, done: str, count: int) -> None:
        """Raise PartlyDone with all lines and a last one that says what is `done`, or UserError if `count`, the number done, is 0."""
        lines = self.shown()
        if lines and not count:
            raise UserError(*lines)
        if lines:
            raise PartlyDone(*lines, coded("TOOL-001", f"everything else is done: {done}"))


def in_writable_folders(images: Collection[Path], faults: Faults) -> list[Path]:
    """Return the images next to which files can be written and record the others, before a model runs for them without effect."""
    writable = {folder: may_write(folder) for folder in {image.parent for image in images}}
    for image in images:
        if not writable[image.parent]:
            faults.not_written(image, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    return [image for image in images if writable[image.parent]]
