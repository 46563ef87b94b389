"""An option is one line in a frozen dataclass; flag, TOML key, type check, help and documentation all follow from that line."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Leniency:
    """What sd-scripts and its front-ends write instead of a value, beside what all options take (see `reading/values.py`)."""

    zero_is_off: bool = False  # 0 means the default, with which nothing happens
    negative_is_off: bool = False  # so does every number below 0
    next_choice: bool = False  # a number that is no choice means the next larger one, or the largest
    raised_to_least: bool = False  # a number over 0 that is too small means the smallest that is taken
    first_of_several: bool = False  # where several values come, the first is meant
    of_other_models: tuple[str, ...] = ()  # words of sd-scripts' other models: the default is meant, and that is told
    commas: bool = False  # of a list: a word holds several, separated by commas
    no_values: bool = False  # of a list: none behind the flag is no list, as front-ends write it
    empty_is_value: bool = False  # an empty text is a value and not the same as none


PathUse = typing.Literal[
    "file",  # is read
    "folder",  # is read
    "model",  # a file or folder that is read; what is not there may be a name on the Hub
    "folder that is filled",  # is read, and made and filled where it lacks something
    "new file",  # is written
    "new folder",  # is made, and written to
    "new file or folder",  # the one or the other is written
    "part of a name",  # of a file that is written
    "part of a path",  # of a folder that is made below another
    "unused",  # is accepted and has no effect
]


@dataclass(frozen=True)
class Option:
    """What the rest of the package knows about one option; `field` is its name in Python and in a TOML file."""

    group: str
    field: str
    type: type  # bool, int, float, str or Path
    is_list: bool
    optional: bool  # None is allowed and means "not given"
    choices: tuple[Any, ...]
    default: Any
    help: str
    aliases: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    secret: bool = False
    path: PathUse | None = None  # what it names on the disk; each of type Path says so, and each text that is a path
    also_numbers: bool = False  # a text whose TOML form may be a number or a list of numbers (resolution, face_crop_aug_range)
    positional: bool = False  # a tool's word without a flag; in the order of declaration, always needed
    also_fraction: bool = False  # a whole number, or a share of the run between 0 and 1
    leniency: Leniency = Leniency()

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return self.field if self.positional else f"--{self.field}"

    @property
    def names(self) -> tuple[str, ...]:
        """Every accepted name, the official one first."""
        return (self.field, *self.aliases)


@dataclass(frozen=True)
class Script:
    """Base of the per-script dataclasses in `scripts`: one attribute a group, and a memory of where each value came from."""

    name: typing.ClassVar[str]  # the file that users start
    required: typing.ClassVar[tuple[str, ...]]  # options that have no default and must be given
    _origins: typing.ClassVar[Mapping[str, str]] = types.MappingProxyType({})  # field -> where its value stood; each object has its own

    @classmethod
    def group_names(cls) -> tuple[str, ...]:
        """The attributes that hold the groups, in the order of help and documentation."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def origin(self, field: str) -> str:
        """Where the value stood, to begin an error line with: `--seed` or `--config_file x.toml, key [training] seed`."""
        return self._origins.get(field, f"--{field}")

    def given(self, field: str) -> bool:
        """Whether the user gave the option, on the command line or in the file."""
        return field in self._origins


@dataclass(frozen=True)
class Tool(Script):
    """Base of the dataclasses of the tools around training: no --config_file, and words without a flag where their users type such."""

    required: typing.ClassVar[tuple[str, ...]] = ()


def opt(
    default: object,
    help: str,
    *,
    choices: tuple[Any, ...] = (),
    aliases: tuple[str, ...] = (),
    at_least: float | None = None,
    at_most: float | None = None,
    secret: bool = False,
    path: PathUse | None = None,
    also_numbers: bool = False,
    also_fraction: bool = False,
    leniency: Leniency = Leniency(),
) -> Any:
    """Declare an option as the default of a dataclass field; its type is the field's annotation, whose Literal also names the choices.

    `at_least` and `at_most` bound each number (inclusive). A `secret` value is never shown, logged or written. `path` says what it names
    on the disk, which is looked at before anything is read (`rules/declared_paths.py`).
    """
    facts = dict(
        help=help, choices=choices, aliases=aliases, at_least=at_least, at_most=at_most, secret=secret, path=path,
        also_numbers=also_numbers, also_fraction=also_fraction, leniency=leniency,
    )  # fmt: skip
    return dataclasses.field(default=default, repr=not secret, metadata=facts)


def needed(help: str, *, path: PathUse | None = None) -> Any:
    """Declare an option that has no default, since its tool names it in `required` and refuses to run without it; its type has no None."""
    return opt(None, help, path=path)


def word(help: str, *, path: PathUse | None = None) -> Any:
    """Declare a word that a tool takes without a flag and always needs, such as the folder of the images."""
    return dataclasses.field(default=None, metadata=dict(help=help, choices=(), positional=True, path=path))


Answer = typing.TypeVar("Answer")


def _once_each(answer: Callable[[type[Script]], Answer]) -> Callable[[type[Script]], Answer]:
    """`answer`, computed once for each script. (For `functools.cache` a class is not hashable in the eyes of type checkers.)"""
    answers: dict[type[Script], Answer] = {}

    @functools.wraps(answer)
    def remembered(spec: type[Script]) -> Answer:
        if spec not in answers:
            answers[spec] = answer(spec)
        return answers[spec]

    return remembered


@_once_each
def groups_of(spec: type[Script]) -> dict[str, type[DataclassInstance]]:
    """The groups of a script: attribute name -> dataclass of its options, in the order of help and documentation."""
    hints = typing.get_type_hints(spec)
    return {name: hints[name] for name in spec.group_names()}


def title_of(group: type) -> str:
    """The heading of a group: the first line of its docstring."""
    return (group.__doc__ or "").strip().splitlines()[0]


@_once_each
def options_of(spec: type[Script]) -> tuple[Option, ...]:
    """All options of a script in the order of their declaration; a name declared twice is our own mistake."""
    found = [option for group, kind in groups_of(spec).items() for option in _options_of_group(group, kind)]
    names = [name for option in found for name in option.names]
    assert len(names) == len(set(names)), f"declared twice: {sorted({name for name in names if names.count(name) > 1})}"
    return tuple(found)


def options_table(options: Script) -> dict[str, object]:
    """All options by field name, to write or compare every one of them. A single value is read off its section: `options.training.seed`."""
    return {option.field: getattr(getattr(options, option.group), option.field) for option in options_of(type(options))}


def section_table(*sections: DataclassInstance) -> dict[str, object]:
    """The options of some sections (groups) by field name."""
    return {field.name: getattr(section, field.name) for section in sections for field in dataclasses.fields(section)}


S = typing.TypeVar("S", bound=Script)


def build(spec: type[S], values: Mapping[str, object], origins: Mapping[str, str]) -> S:
    """The options object with `values` where given and defaults elsewhere; `origins` tells where each given value came from."""
    groups = {}
    for group, kind in groups_of(spec).items():
        mine = {field.name for field in dataclasses.fields(kind)}
        groups[group] = kind(**{name: value for name, value in values.items() if name in mine})
    made = spec(**groups)
    object.__setattr__(made, "_origins", dict(origins))
    return made


def _options_of_group(group: str, kind: type[DataclassInstance]) -> list[Option]:
    hints = typing.get_type_hints(kind)
    found = []
    for field in dataclasses.fields(kind):
        inner, is_list, optional = _unfold(hints[field.name])
        optional |= field.default is None and not field.metadata.get("positional")  # `needed`: left empty it counts as not given
        facts = dict(field.metadata)
        if typing.get_origin(inner) is typing.Literal:  # whose texts are the choices
            inner, facts["choices"] = str, typing.get_args(inner)
        assert inner is not Path or facts["path"] is not None, f"{field.name}: say with path=… what it names on the disk"
        found.append(Option(group=group, field=field.name, type=inner, is_list=is_list, optional=optional, default=field.default, **facts))
    return found


def _unfold(hint: object) -> tuple[Any, bool, bool]:
    """`int | None` -> (int, False, True); `tuple[str, ...]` -> (str, True, False)."""
    optional = False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = [part for part in typing.get_args(hint) if part is not type(None)]
        optional = True
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True, optional
    assert hint in (bool, int, float, str, Path) or typing.get_origin(hint) is typing.Literal, f"no option can have the type {hint}"
    return hint, False, optional
