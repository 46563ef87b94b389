"""Lists the contents of a folder: files, folders, and special files (pipes, sockets, devices) that must not be opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from library.paths.look import is_folder, shown
from library.words import counted, named


@dataclass(frozen=True)
class Listing:
    """Names by kind, each sorted. A broken link counts as a file: opening it raises the error."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    special: tuple[str, ...]


def listing(folder: Path | str) -> Listing:
    """The direct contents of `folder`, including hidden names. Raises OSError if the folder cannot be listed."""
    by_kind: dict[str, list[str]] = {"file": [], "folder": [], "special": []}
    with os.scandir(folder) as entries:
        for entry in entries:
            by_kind[kind_of(entry)].append(entry.name)
    return Listing(*(tuple(sorted(names)) for names in by_kind.values()))


def names_in(folder: Path | str) -> list[str]:
    """All names in `folder`, sorted; empty if it cannot be listed."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except (OSError, ValueError):
        return []


def matching(folder: Path | str, pattern: str) -> list[Path]:
    """Paths in `folder` (or below, with `**`) that match the pattern, sorted; empty if there is no such folder."""
    return sorted(Path(folder).glob(pattern)) if is_folder(folder) else []


def kind_of(entry: os.DirEntry[str]) -> str:
    """`file`, `folder` or `special`; needs no extra system call if the listing contains the type."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        entry.stat()  # raises for a broken link
    except OSError:
        return "file"
    return "special"


def passed_over(folder: Path, special: Sequence[str]) -> list[str]:
    """A line that counts special files skipped in `folder`, if there are any. Hidden names are ignored."""
    names = [name for name in special if not name.startswith(".")]
    if not names:
        return []
    what = counted(len(names), "pipe, socket or device is skipped", "pipes, sockets or devices are skipped")
    return [f"{shown(folder)}: {what}: {named(names)}; remove them from the folder, or replace them with ordinary files"]


def walk(folder: Path, recursive: bool = True) -> Iterator[tuple[Path, Listing, OSError | None]]:
    """Yield each folder with its contents, `folder` first, skipping hidden folders and links.

    A folder that cannot be listed comes with empty contents and the error.
    """
    try:
        content, fault = listing(folder), None
    except OSError as error:
        content, fault = Listing((), (), ()), error
    yield folder, content, fault
    for name in content.folders if recursive else ():
        below = folder / name
        if not name.startswith(".") and not below.is_symlink():
            yield from walk(below)
