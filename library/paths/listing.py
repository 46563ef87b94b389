"""What a folder holds: files, folders, and special things (pipes, sockets, devices) that nobody should open."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from library.paths.look import is_folder, shown
from library.words import counted, named


@dataclass(frozen=True)
class Listing:
    """Names by what they are, each sorted. A link that leads nowhere counts as a file: opening it tells."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    special: tuple[str, ...]


def listing(folder: Path | str) -> Listing:
    """What is directly in `folder`, hidden names too. Raises OSError for a folder that cannot be listed."""
    found: dict[str, list[str]] = {"file": [], "folder": [], "special": []}
    with os.scandir(folder) as entries:
        for entry in entries:
            found[kind_of(entry)].append(entry.name)
    return Listing(*(tuple(sorted(names)) for names in found.values()))


def names_in(folder: Path | str) -> list[str]:
    """All names in `folder`, sorted; none where it cannot be listed."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except (OSError, ValueError):
        return []


def matching(folder: Path | str, pattern: str) -> list[Path]:
    """What lies in `folder` (or below it, by `**`) and fits the pattern, sorted; nothing where there is no folder that can be named."""
    return sorted(Path(folder).glob(pattern)) if is_folder(folder) else []


def kind_of(entry: os.DirEntry[str]) -> str:
    """`file`, `folder` or `special`; costs no further question to the system where the listing tells the kind."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        entry.stat()  # raises for a link that leads nowhere
    except OSError:
        return "file"
    return "special"


def passed_over(folder: Path, special: Sequence[str]) -> list[str]:
    """A line that counts what was not opened in `folder`; none where all is ordinary. Hidden names are nobody's data."""
    names = [name for name in special if not name.startswith(".")]
    if not names:
        return []
    what = counted(len(names), "pipe, socket or device is skipped", "pipes, sockets or devices are skipped")
    return [f"{shown(folder)}: {what}: {named(names)}; remove them from the folder, or replace them with ordinary files"]


def walk(folder: Path, recursive: bool = True) -> Iterator[tuple[Path, Listing, OSError | None]]:
    """Each folder with what it holds, `folder` first, without those that are hidden or reached by links; with the fault instead where one
    cannot be listed."""
    try:
        found, fault = listing(folder), None
    except OSError as error:
        found, fault = Listing((), (), ()), error
    yield folder, found, fault
    for name in found.folders if recursive else ():
        below = folder / name
        if not name.startswith(".") and not below.is_symlink():
            yield from walk(below)
