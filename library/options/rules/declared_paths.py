"""Errors in the paths that options name, each checked as its declaration says (`path=` of `declare.opt`)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

from library.errors import Problem, coded
from library.options.declare import Option, PathUse, Script, options_of, options_table
from library.paths import faults
from library.paths.look import expanded, is_file

_RULES: Mapping[PathUse, Callable[[str], Problem | None]] = {
    "file": faults.file_fault,
    "file or data URL": lambda text: None if text.startswith("data:image/") else faults.file_fault(text),
    "folder": faults.folder_fault,
    "model": faults.model_fault,
    "folder that is filled": faults.filled_folder_fault,
    "new file": faults.new_file_fault,
    "new weights": faults.new_weights_fault,
    "new text": faults.new_text_fault,
    "new folder": faults.new_folder_fault,
    "new model": faults.new_model_fault,
    "new file or folder": faults.new_file_or_folder_fault,
    "part of a name": faults.part_fault,
    "part of a path": lambda text: faults.part_fault(text, folders=True),
}
_READ: tuple[PathUse, ...] = ("file", "file or data URL", "model")


def path_faults(options: Script, idle: Container[str] = ()) -> Iterator[Problem]:
    """Yield an error for each path that cannot be used as declared. Skips options in `idle`, which have no effect with the others."""
    values = options_table(options)
    for option in options_of(type(options)):
        if option.path is None or option.field in idle:
            continue
        for text in _texts(values[option.field]):
            if fault := fault_of(option, text):
                yield fault.reworded(f"{options.origin(option.field)}: {fault}")


def own_input_faults(options: Script, field: str, of_same_kind: Container[str] = ()) -> Iterator[Problem]:
    """Yield an error if the file that option `field` writes is one that another option of the command reads.

    Options in `of_same_kind` name files that it may replace, such as a model by a changed one.
    """
    values = options_table(options)
    for target in _texts(values[field]):
        for option in options_of(type(options)):
            if (
                option.path in _READ
                and option.field not in of_same_kind
                and any(is_same_file(Path(target), Path(text)) for text in _texts(values[option.field]))
            ):
                what = f"is the file of {option.flag}, which would be overwritten"
                yield coded("PATH-011", f"{options.origin(field)}: {target} {what}; choose another name")


def is_same_file(one: Path, other: Path) -> bool:
    """Whether both paths name one existing file, also through links."""
    one, other = expanded(one), expanded(other)
    return is_file(one) and is_file(other) and one.samefile(other)


def fault_of(option: Option, text: str) -> Problem | None:
    """Why the path cannot be used as the option declares, or None."""
    rule = _RULES.get(option.path) if option.path is not None else None
    if rule is None or text.startswith(("http://", "https://")):
        return None
    return rule(text)


def _texts(value: object) -> Iterator[str]:
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, str | Path) and str(one):
            yield str(one)
