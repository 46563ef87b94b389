"""What is wrong with the paths that options name, each asked as its declaration says (`path=` of `declare.opt`)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

from library.errors import Problem
from library.options.declare import Option, PathUse, Script, options_of, options_table
from library.paths import faults

_RULES: Mapping[PathUse, Callable[[str], Problem | None]] = {
    "file": faults.file_fault,
    "folder": faults.folder_fault,
    "model": faults.model_fault,
    "folder that is filled": faults.filled_folder_fault,
    "new file": faults.new_file_fault,
    "new folder": faults.new_folder_fault,
    "new file or folder": faults.new_file_or_folder_fault,
    "part of a name": faults.part_fault,
    "part of a path": lambda text: faults.part_fault(text, folders=True),
}


def path_faults(options: Script, idle: Container[str] = ()) -> Iterator[Problem]:
    """A line for each path that cannot be what it is meant to be. Options in `idle` have no effect beside others and are passed over."""
    values = options_table(options)
    for option in options_of(type(options)):
        if option.path is None or option.field in idle:
            continue
        for text in _texts(values[option.field]):
            if fault := fault_of(option, text):
                yield fault.reworded(f"{options.origin(option.field)}: {fault}")


def fault_of(option: Option, text: str) -> Problem | None:
    """Why the path cannot be what the option means, or None."""
    rule = _RULES.get(option.path) if option.path is not None else None
    if rule is None or text.startswith(("data:image/", "http://", "https://")):
        return None
    return rule(text)


def _texts(value: object) -> Iterator[str]:
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, str | Path) and str(one):
            yield str(one)
