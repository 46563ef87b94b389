"""Checks keys and values of a dataset config: each error names the key, what was expected and what was probably intended."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

from library.data.config.keys import DATASET, KEYS, OTHER_NAMES, SUBSET, SUBSET_ONLY, NotAccepted, shown
from library.errors import Problem, coded
from library.options.reading.foreign_keys import FOREIGN_IN_DATASETS
from library.options.suggest import plain_name

Table = dict[str, object]  # table of a config: key -> value, table or list of tables

# Marks a value whose error is already reported; later checks skip it.
INVALID = object()

_SECTIONS = ("general", "datasets")
_SECTIONS_OF = {"top": _SECTIONS, "dataset": ("subsets",)}
_EXTRA = "extra keys not allowed"  # message of voluptuous for an unknown key


def check_tree(tree: dict[str, object], file: str) -> list[Problem]:
    """One line for each key or type error; invalid values in `tree` become INVALID, unknown keys are removed."""
    faults, without_form = _shape(tree, file)
    faults += _table_faults(tree, "", "top", file)
    general = tree.get("general")
    faults += _table_faults(general, "general", "general", file) if isinstance(general, dict) else []
    for number, dataset in enumerate(tables_in(tree, "datasets")):
        place = f"datasets[{number}]"
        faults += _table_faults(dataset, place, "dataset", file)
        for position, subset in enumerate(tables_in(dataset, "subsets")):
            faults += _table_faults(subset, f"{place}.subsets[{position}]", "subset", file)
    for holder, section in without_form:
        holder[section] = INVALID
    return faults


def tables_in(holder: Mapping[str, object], section: str) -> list[Table]:
    """The tables of [[section]]; empty if it is missing or has another form, which `check_tree` reports."""
    value = holder.get(section)
    return value if _are_tables(value) else []


def take_out_foreign_keys(tree: dict[str, object], file: str) -> list[str]:
    """Remove sd-scripts keys that have no effect here from all tables; returns one line about them, if there are any."""
    taken: dict[str, list[str]] = {}
    for table in _tables_of(tree):
        for key in [key for key in table if plain_name(key) in FOREIGN_IN_DATASETS and key not in KEYS]:
            taken.setdefault(FOREIGN_IN_DATASETS[plain_name(key)].reason, []).append(key)
            del table[key]
    sorts = "; ".join(f"{', '.join(dict.fromkeys(keys))} – of {reason}" for reason, keys in taken.items())
    return [f"{file}: keys without effect: {sorts}; remove them"] if taken else []


def _tables_of(tree: dict[str, object]) -> Iterator[dict[str, object]]:
    """The top-level table and every table nested in it."""
    yield tree
    for value in tree.values():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                yield from _tables_of(part)


def _table_faults(table: dict[str, object], place: str, level: str, file: str) -> list[Problem]:
    """The errors of one table's direct keys. One schema for the whole tree would stop at the first invalid table of a list."""
    from voluptuous import MultipleInvalid

    faults = []
    try:
        _schema(level)(table)
    except MultipleInvalid as invalid:
        order = list(table)
        for fault in sorted(invalid.errors, key=lambda one: order.index(str(one.path[0]))):
            key = str(fault.path[0])
            name = f"{place}.{key}" if place else key
            wrong = _unknown(key, level) if fault.msg == _EXTRA else f"is {shown(table[key])}; expected {fault.msg}"
            faults.append(coded(_code(key, fault.msg == _EXTRA), f"{file}: {name} {wrong}"))
            if key in KEYS:
                table[key] = INVALID
            else:
                del table[key]
    return faults


def _code(key: str, extra: bool) -> str:
    """Error code of a wrong value, a key at the wrong level or an unknown key."""
    if not extra:
        return "CFG-008"
    return "CFG-007" if key in KEYS else "CFG-006"


def _schema(level: str) -> Callable[[object], object]:
    from voluptuous import Schema

    keys: dict[str, object] = {key.name: _validator(key.check) for key in KEYS.values() if _allowed(key.name, level)}
    return Schema(keys | dict.fromkeys(_SECTIONS_OF.get(level, ()), object))


def _validator(check: Callable[[object], object]) -> Callable[[object], object]:
    from voluptuous import Invalid

    def validate(value: object) -> object:
        try:
            return check(value)
        except NotAccepted as fault:
            raise Invalid(str(fault)) from None

    return validate


def _shape(tree: dict[str, object], file: str) -> tuple[list[Problem], list[tuple[Table, str]]]:
    """Errors in the structure (missing or single-bracketed sections), and the (holder, section) pairs removed because of them."""
    faults: list[Problem] = []
    without_form: list[tuple[Table, str]] = []
    if not isinstance(tree.get("general", {}), dict):
        faults.append(coded("CFG-003", f"{file}: general must be a table: write [general] on a separate line"))
        del tree["general"]
    if "datasets" not in tree:
        faults.append(coded("CFG-011", f"{file}: {_no_datasets(tree)}"))
        without_form.append((tree, "datasets"))
    else:
        _list_of_tables(tree, "datasets", "datasets", file, faults, without_form)
    for number, dataset in enumerate(tables_in(tree, "datasets")):
        if "subsets" in dataset:
            _list_of_tables(dataset, "subsets", f"datasets[{number}].subsets", file, faults, without_form)
    return faults, without_form


def _list_of_tables(
    holder: Table, section: str, name: str, file: str, faults: list[Problem], without_form: list[tuple[Table, str]]
) -> None:
    brackets = "[[datasets.subsets]]" if section == "subsets" else "[[datasets]]"
    value = holder[section]
    if isinstance(value, dict):
        lacking = section == "datasets" and isinstance(value.get("subsets"), list) and value.keys() == {"subsets"}
        remedy = f"has no line {brackets}; add it above [[datasets.subsets]]" if lacking else f"is in single brackets; write {brackets}"
        faults.append(coded("CFG-003", f"{file}: {name} {remedy}"))
        holder[section] = [value]
    elif not _are_tables(value):
        faults.append(coded("CFG-003", f"{file}: {name} must be a list of tables: write {brackets} on a separate line"))
        del holder[section]
        without_form.append((holder, section))


def _no_datasets(tree: dict[str, object]) -> str:
    near = difflib.get_close_matches("datasets", list(tree), n=1, cutoff=0.7)
    if near:
        del tree[near[0]]
        return f"{near[0]} is not a known section; did you mean [[datasets]]?"
    if tree and not any(key in KEYS or key in _SECTIONS for key in tree):
        tree.clear()
        return "has no [[datasets]]; if it is a training config, use it with --config_file"
    return "has no [[datasets]] section; add [[datasets]] and, below it, [[datasets.subsets]] with image_dir = '…'"


def _are_tables(value: object) -> TypeGuard[list[Table]]:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _unknown(key: str, level: str) -> str:
    """Error text for a key that is unknown at this level, with the name or place that was probably intended."""
    sections = _SECTIONS_OF.get(level, ())
    near = key if key in KEYS else OTHER_NAMES.get(_plain(key)) or _nearest(key, [*KEYS, *sections])
    if near is None:
        return "is not a key of a dataset config; remove it (training options belong on the command line or in --config_file)"
    meant = "" if near == key else f"is not a known key; did you mean {near}?"
    if near in sections or _allowed(near, level):
        return meant
    where = {DATASET: "[[datasets]] or [general]", SUBSET: "[[datasets.subsets]], [[datasets]] or [general]"}
    place = where.get(KEYS[near].level, "[[datasets.subsets]]")
    return f"{meant} It belongs under {place}" if meant else f"is not allowed here; it belongs under {place}"


def _allowed(key: str, level: str) -> bool:
    kind = KEYS[key].level
    return {"subset": kind != DATASET, "dataset": kind != SUBSET_ONLY, "general": kind != SUBSET_ONLY, "top": False}[level]


def _plain(key: str) -> str:
    return key.lower().replace("-", "_").strip("_")


def _nearest(key: str, known: list[str]) -> str | None:
    close = difflib.get_close_matches(_plain(key), known, n=1, cutoff=0.6)
    return close[0] if close else None
