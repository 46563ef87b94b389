"""Index of facts about a folder's images and captions, in a hidden file in that folder, so that the next start does not read them again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from library.console import is_main_process
from library.files import NOT_UNICODE, atomic_write
from library.parsing.json_text import parse_json
from library.paths.listing import kind_of
from library.paths.opening import read_text

NAME = ".sd-scan.json"
FEWEST = 50  # files; smaller folders are read quickly and get no index
_VERSION = 2  # of the index format; other versions are ignored
_SETTLED = 2_000_000_000  # ns; a file changed more recently might change again without a new timestamp (FAT counts in 2 s)

Stamp = tuple[int, int]  # (modification time in ns, size in bytes)


Own = TypeVar("Own", bound="Fact")


class Fact(Protocol):
    """A dataclass of plain values that describes one file."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @classmethod
    def from_values(cls: type[Own], values: Sequence[Any]) -> Own | None:
        """The fact with these fields, in order; None if the values are invalid."""


Kind = TypeVar("Kind", bound=Fact)


@dataclass
class _Folder:
    """One folder: its current files, and by kind of fact and file name: [modification time, bytes, values of the fact …]."""

    path: Path
    stamps: dict[str, Stamp]
    known: dict[str, dict[str, list[Any]]]
    special: tuple[str, ...] = ()  # pipes, sockets, devices
    changed: bool = False
    facts: dict[tuple[type[Fact], str], Fact] = field(default_factory=dict)  # the entries of `known` that were used


class ScanIndex:
    """Reads each fact about a file only once, as long as its path, modification time and size stay the same.

    Nothing else depends on the index: if it is missing or damaged, or the folder is read-only, the facts are read from the files.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, _Folder] = {}
        self._by_text: dict[str, _Folder] = {}  # by folder text: creating and hashing a Path per file takes longer than everything else
        self._began = time.time_ns()

    def names(self, folder: Path) -> dict[str, Stamp]:
        """The files of `folder`, including hidden files and broken links. Raises OSError if the folder cannot be listed."""
        return self._folder(folder).stamps

    def length(self, path: Path) -> int:
        """The size in bytes of a file when its folder was listed."""
        folder, name = self._place(path)
        return folder.stamps[name][1]

    def special(self, folder: Path) -> tuple[str, ...]:
        """The names in `folder` that are neither files nor folders and must not be opened."""
        return self._folder(folder).special

    def fact(self, path: Path, kind: type[Kind], read: Callable[[Path], Kind]) -> Kind:
        """The result of `read(path)`, from the index if the file is unchanged. Exceptions of `read` propagate and are not cached."""
        fact = self.known(path, kind)
        if fact is None:
            fact = read(path)
            self.remember(path, fact)
        return fact

    def fact_in(self, folder: Path, name: str, kind: type[Kind], read: Callable[[Path], Kind]) -> Kind:
        """Like `fact`, for the file `name` in `folder`; builds its path only to read it."""
        fact = self.known_in(folder, name, kind)
        return self.fact(folder / name, kind, read) if fact is None else fact

    def known(self, path: Path, kind: type[Kind]) -> Kind | None:
        """The fact if the index has it for the current file, else None."""
        return self._known(*self._place(path), kind)

    def known_in(self, folder: Path, name: str, kind: type[Kind]) -> Kind | None:
        """Like `known`, for the file `name` in `folder`, without its path."""
        return self._known(self._folder(folder), name, kind)

    def _known(self, folder: _Folder, name: str, kind: type[Kind]) -> Kind | None:
        if (fact := folder.facts.get((kind, name))) is not None:
            assert isinstance(fact, kind)
            return fact
        entry = folder.known.get(kind.__name__, {}).get(name)
        if entry is None or folder.stamps.get(name) != (entry[0], entry[1]):
            return None
        loaded = kind.from_values(entry[2:])
        if loaded is not None:
            folder.facts[kind, name] = loaded
        return loaded

    def remember(self, path: Path, fact: Fact) -> None:
        """Store a fact about the file as it was when its folder was listed."""
        folder, name = self._place(path)
        if name in folder.stamps:
            folder.known.setdefault(type(fact).__name__, {})[name] = [
                *folder.stamps[name],
                *(getattr(fact, one) for one in fact.__dataclass_fields__),
            ]
            folder.facts[type(fact), name] = fact
            folder.changed = True

    def save(self) -> None:
        """Write the index of every folder with new facts. Read-only folders get none."""
        if not is_main_process():
            return
        for folder in self._folders.values():
            if folder.changed and len(folder.stamps) >= FEWEST:
                with contextlib.suppress(OSError):
                    self._write(folder)
            folder.changed = False

    def _place(self, path: Path) -> tuple[_Folder, str]:
        """The folder of a file, and its name."""
        text = str(path)
        name = text[text.rfind(os.sep) + 1 :]
        base = text[: len(text) - len(name)]
        if base not in self._by_text:
            self._by_text[base] = self._folder(path.parent)
        return self._by_text[base], name

    def _folder(self, path: Path) -> _Folder:
        if path not in self._folders:
            stamps: dict[str, Stamp] = {}
            special = []
            with os.scandir(path) as entries:
                for entry in entries:
                    kind = kind_of(entry)
                    if kind == "file":
                        stamps[entry.name] = _stamp(entry)
                    elif kind == "special":
                        special.append(entry.name)
            self._folders[path] = _Folder(path, stamps, _read(path / NAME), special=tuple(sorted(special)))
        return self._folders[path]

    def _write(self, folder: _Folder) -> None:
        settled = self._began - _SETTLED
        known = {
            kind: {name: entry for name, entry in entries.items() if folder.stamps.get(name) == (entry[0], entry[1]) and entry[0] < settled}
            for kind, entries in folder.known.items()
        }
        if any(known.values()):
            text = json.dumps({"version": _VERSION, **known}, ensure_ascii=False, separators=(",", ":"))
            with atomic_write(folder.path / NAME) as temporary:
                temporary.write_text(text, encoding="utf-8", errors=NOT_UNICODE, newline="\n")


def _stamp(entry: os.DirEntry[str]) -> Stamp:
    try:
        stat = entry.stat()
    except OSError:  # a broken link: reading it raises the error
        return 0, -1
    return stat.st_mtime_ns, stat.st_size


def _read(path: Path) -> dict[str, dict[str, list[Any]]]:
    """The entries of an index file; empty if it is missing, damaged or of another version."""
    try:
        tree = parse_json(read_text(path, "utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(tree, dict) or tree.pop("version", None) != _VERSION:
        return {}
    return {
        kind: {name: entry for name, entry in entries.items() if isinstance(entry, list) and len(entry) > 2}
        for kind, entries in tree.items()
        if isinstance(entries, dict)
    }
