"""Reads the table of cleaning rules from TOML and checks it completely, so that a typo is reported instead of ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from library.data.config.config_text import read_tree
from library.errors import Problem, UserError, coded
from library.options.suggest import closest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Names = tuple[str, ...]


@dataclass(frozen=True)
class TagRules:
    """The section [tags]; finetune/cleaning_rules.toml explains each key."""

    underscores_to_spaces: bool = False
    keep_underscores: Names = ()
    remove: Names = ()
    remove_less_exact: bool = False
    counts: tuple[Names, ...] = ()
    several_people: Names = ()
    not_with_several_people: Names = ()
    not_beside: tuple[tuple[str, Names], ...] = ()
    one_for_each_person: tuple[tuple[str, Names], ...] = ()


@dataclass(frozen=True)
class CaptionRules:
    """The section [captions]; `replace` pairs each target word with its synonyms."""

    drop_before_people: Names = ()
    other_people: Names = ()
    replace: tuple[tuple[str, Names], ...] = ()


@dataclass(frozen=True)
class Rules:
    """A whole table of cleaning rules."""

    tags: TagRules
    captions: CaptionRules


def read_rules(path: Path, option: str) -> Rules:
    """The table in the TOML file; missing keys have no effect. Raises UserError that names `option` and every unknown or invalid key."""
    tree = read_tree(path, f"{option}: table of rules")
    where = f"{option}: table of rules {path}"
    faults = [
        coded("CFG-006", f"{where}: [{name}]: unknown section{_near(name, ('tags', 'captions'))}")
        for name in tree
        if name not in ("tags", "captions")
    ]
    rules = Rules(_section(tree, "tags", TagRules(), where, faults), _section(tree, "captions", CaptionRules(), where, faults))
    if faults:
        raise UserError(*faults)
    return rules


Section = TypeVar("Section", bound="DataclassInstance")


def _section(tree: Mapping[str, object], name: str, usual: Section, where: str, faults: list[Problem]) -> Section:
    """`usual` with the values of the section `name`."""
    section = tree.get(name, {})
    if not isinstance(section, dict):
        faults.append(coded("CFG-003", f"{where}: {name}: expected a section [{name}]"))
        return usual
    return replace(usual, **_values(section, usual, f"{where}: [{name}]", faults))


def _values(section: Mapping[str, object], usual: DataclassInstance, where: str, faults: list[Problem]) -> dict[str, object]:
    """The section's values by key, with the types declared in the dataclass of `usual`."""
    kinds = {field.name: str(field.type) for field in fields(usual)}
    values: dict[str, object] = {}
    for key, value in section.items():
        if key not in kinds:
            faults.append(coded("CFG-006", f"{where} {key}: unknown key{_near(key, kinds)}"))
            continue
        read, expected = _READERS[kinds[key]]
        try:
            values[key] = read(value)
        except TypeError:
            faults.append(coded("CFG-008", f"{where} {key}: expected {expected}, not {value!r:.60}"))
    return values


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _names(value: object) -> Names:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise TypeError
    return tuple(" ".join(part.lower().split()) for part in value)


def _lists(value: object) -> tuple[Names, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(_names(part) for part in value)


def _table(value: object) -> tuple[tuple[str, Names], ...]:
    if not isinstance(value, dict):
        raise TypeError
    return tuple((str(name).lower(), _names(part)) for name, part in value.items())


_READERS = {
    "bool": (_switch, "true or false"),
    "Names": (_names, 'a list of texts, such as ["a", "b"]'),
    "tuple[Names, ...]": (_lists, 'a list of lists of texts, such as [["a", "b"], ["c"]]'),
    "tuple[tuple[str, Names], ...]": (_table, 'lines such as name = ["a", "b"] below a separate heading'),
}


def _near(name: str, known: Iterable[str]) -> str:
    near = closest(name, list(known))
    return f"; did you mean {near}?" if near else f"; known are {', '.join(known)}"
