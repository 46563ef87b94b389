"""Finds paths of a tool's command line that cannot work, before anything is read: missing, a file for a folder, not writable."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from library.errors import UserError
from library.options.declare import Tool, options_of, options_table
from library.options.suggest import missing_path


def check_paths(options: Tool, *, folders: Iterable[str] = (), files: Iterable[str] = (), written: Iterable[str] = ()) -> None:
    """Raise UserError with all that is wrong with the paths in these fields of `options`; fields that are None are passed over.

    `folders` and `files` have to be there; `written` are files to write, whose folder is made later if it is not there. Options that
    the tool names in `required` have to be given.
    """
    values = options_table(options)
    problems = [
        f"--{option.field} is missing: {option.help}"
        for option in options_of(type(options))
        if option.field in options.required and values[option.field] in (None, ())
    ]
    for fields, rule in ((folders, _folder), (files, _file), (written, _written)):
        for field in fields:
            value = values[field]
            for one in value if isinstance(value, tuple) else (value,):
                if one is not None:
                    problems += [f"{options.origin(field)}: {line}" for line in rule(Path(one))]
    if problems:
        raise UserError(*problems)


def _folder(path: Path) -> Iterator[str]:
    if path.is_file():
        yield f"{path} is a file; give the folder"
    elif not path.is_dir():
        yield f"{path}: {missing_path(path, folder=True)}"


def _file(path: Path) -> Iterator[str]:
    if path.is_dir():
        yield f"{path} is a folder; give the file itself"
    elif not path.exists():
        yield f"{path}: {missing_path(path)}"


def _written(path: Path) -> Iterator[str]:
    if path.is_dir():
        yield f"{path} is a folder; give the name of the file to write"
        return
    standing = next((part for part in path.absolute().parents if part.exists()), None)
    if standing is None:
        yield f"{path}: there is no such drive; give a folder that can be made"
    elif not standing.is_dir():
        yield f"{path}: {standing} is a file, not a folder; give another folder"
    elif not os.access(standing, os.W_OK | os.X_OK):
        yield f"{path}: no right to write in {standing}; give another folder"
