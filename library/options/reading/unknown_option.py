"""What a name without an option is: a typo, an option of another script, a front-end's key, or unknown."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from library.errors import Problem, coded
from library.options.declare import options_of
from library.options.reading.foreign_keys import FOREIGN, HERE
from library.options.suggest import closest, mistyped, plain_name

Kind = Literal["typo", "other script", "foreign", "dataset key", "unknown"]

# keys of a dataset config that are not options, and the equivalent option
_DATASET_KEYS = {
    "batch_size": "train_batch_size",
    "image_dir": "train_data_dir",
    "metadata_file": "in_json",
    **dict.fromkeys(("num_repeats", "class_tokens", "is_reg")),
}


@dataclass(frozen=True)
class Verdict:
    """What a name is. `reason` applies to all names of its kind; `meant` is the nearest or equivalent option."""

    kind: Kind
    reason: str
    meant: str | None = None


def judge(name: str, known: Mapping[str, str]) -> Verdict:
    """Judge `name` for a script with the options in `known`: every spelling -> official name.

    A name that another script has, or that is known from elsewhere, is never a typo, even if it is near an option; neither is one that is
    nearer to such a name than to any option.
    """
    if (same := _written_otherwise(name, known)) is not None:
        return Verdict("typo", "unknown option", same)
    others = _options_of_other_scripts()
    plain = plain_name(name)
    if plain in others:
        scripts = others[plain]
        return Verdict("other script", f"{_listed(scripts)} only")
    if plain in FOREIGN:
        return Verdict("foreign", FOREIGN[plain].reason, HERE.get(plain))
    if plain in _DATASET_KEYS:
        return Verdict("dataset key", "a key of a dataset config (--dataset_config)", _DATASET_KEYS[plain])
    near = mistyped(name, [*known, *others, *FOREIGN, *_DATASET_KEYS])
    if near is not None and near in known:
        return Verdict("typo", "unknown option", known[near])
    if near is not None and near in others:
        return Verdict("typo", f"unknown option, similar to one of {_listed(others[near])}", near)
    likely = closest(name, known)
    return Verdict("unknown", "unknown", known[likely] if likely else None)


def remedy(name: str, known: Mapping[str, str], dashes: str = "", near_first: bool = False) -> str:
    """Return the end of an error about an unknown option: the nearest `known` one, where it belongs, or where all are listed.

    `dashes` are the prefix of option names on the command line. `near_first` prefers the nearest name to other scripts with exactly this
    name, for tools, whose options often abbreviate those of a script.
    """
    if near_first and (near := closest(name, known)):
        return f"did you mean {dashes}{near}?"
    verdict = judge(name, known)
    if verdict.kind == "other script":
        return f"it belongs to {verdict.reason}; remove it here"
    if verdict.kind == "foreign":
        instead = f"here it is {dashes}{verdict.meant}" if verdict.meant in known.values() else "remove it"
        return f"it belongs to {verdict.reason}; {instead}"
    if verdict.kind == "dataset key":
        by_folders = "without one it is part of folder names, such as '10_shs dog'"
        return f"it is {verdict.reason}; {f'here it is {dashes}{verdict.meant}' if verdict.meant else by_folders}"
    return f"did you mean {dashes}{verdict.meant}?" if verdict.meant else "--help lists all options"


@dataclass
class UnknownKeys:
    """The keys of one file without effect, in the order of the file, for one warning."""

    known: Mapping[str, str]
    _sorts: dict[tuple[Kind, str], list[str]] = field(default_factory=dict)  # (kind, reason) -> names

    def add(self, name: str) -> Problem | None:
        """Record the key, or return an error if it is a typo."""
        verdict = judge(name, self.known)
        if verdict.kind == "typo":
            return coded("CFG-006", f"{verdict.reason}; did you mean {verdict.meant}?")
        sort, shown = self._sorts.setdefault((verdict.kind, verdict.reason), []), name
        if verdict.kind == "unknown" and verdict.meant:
            shown = f"{name} (is {verdict.meant} meant?)"
        elif verdict.meant in self.known.values():
            shown = f"{name} (here {verdict.meant})"
        if shown not in sort:
            sort.append(shown)
        return None

    def line(self, place: str) -> str | None:
        """Return the warning about them, or None without keys."""
        if not self._sorts:
            return None
        count = sum(map(len, self._sorts.values()))
        sorts = "; ".join(f"{', '.join(names)} – {_of(kind, reason)}" for (kind, reason), names in self._sorts.items())
        if count == 1:
            return f"{place}: a key has no effect: {sorts}; remove it, or correct its name if it should be an option"
        return f"{place}: {count} keys have no effect: {sorts}; remove them, or correct the names of those that should be options"


def _of(kind: Kind, reason: str) -> str:
    return {"other script": f"of {reason}", "foreign": f"of {reason}"}.get(kind, reason)


def _written_otherwise(name: str, known: Mapping[str, str]) -> str | None:
    """Return the option that equals the name except for letter case, hyphens and underscores."""
    letters = plain_name(name).replace("_", "")
    return next((official for written, official in known.items() if written.replace("_", "") == letters), None)


@functools.cache
def _options_of_other_scripts() -> Mapping[str, tuple[str, ...]]:
    """Every option of every script, in each spelling, and the scripts that have it."""
    from library.options.groups.scripts import SCRIPTS

    scripts: dict[str, tuple[str, ...]] = {}
    for spec in SCRIPTS:
        for option in options_of(spec):
            for name in option.names:
                scripts[name] = (*scripts.get(name, ()), spec.name)
    return scripts


def _listed(scripts: Iterable[str]) -> str:
    *first, last = scripts
    return " and ".join(filter(None, [", ".join(first), last]))
