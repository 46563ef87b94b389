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
    """Other values that sd-scripts and its front-ends write, besides those that all options accept (see `reading/values.py`)."""

    zero_is_off: bool = False  # 0 means the default, which has no effect
    negative_is_off: bool = False  # so does every negative number
    next_choice: bool = False  # a number that is not a choice becomes the next larger choice, or the largest
    raised_to_least: bool = False  # a positive number that is too small becomes the minimum
    first_of_several: bool = False  # of several values, the first is used
    of_other_models: tuple[str, ...] = ()  # words of sd-scripts' other models: use the default, with a warning
    commas: bool = False  # of a list: one word may contain several values, separated by commas
    no_values: bool = False  # of a list: a flag without values means an empty list, as front-ends write it
    empty_is_value: bool = False  # an empty text is a value, different from None


PathUse = typing.Literal[
    "file",  # read
    "file or data URL",  # read, unless it is an image that is written out (data:image/…)
    "folder",  # read
    "model",  # a file or folder that is read; if it does not exist, the name may be on the Hub
    "folder that is filled",  # read, created if missing, and completed
    "new file",  # written
    "new weights",  # written in one of the formats of a single file with weights
    "new text",  # written as text; never replaces a file that is not text
    "new folder",  # created, and written to
    "new model",  # written as one file or as a Diffusers folder
    "new file or folder",  # one or the other is written
    "part of a name",  # of a file that is written
    "part of a path",  # of a folder created below another
    "unused",  # accepted without effect
]


@dataclass(frozen=True)
class Option:
    """The declaration of one option; `field` is its name in Python and in a TOML file."""

    group: str
    field: str
    type: type  # bool, int, float, str or Path
    is_list: bool
    optional: bool  # None is allowed and means "not set"
    choices: tuple[Any, ...]
    default: Any
    help: str
    aliases: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    secret: bool = False
    path: PathUse | None = None  # what it names on disk; required for every option of type Path and every text that is a path
    also_numbers: bool = False  # a text that may be a number or a list of numbers in TOML (resolution, face_crop_aug_range)
    positional: bool = False  # a tool's argument without a flag; in order of declaration, always required
    also_fraction: bool = False  # an integer, or a share of the run between 0 and 1
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
    """Base of the per-script dataclasses in `scripts`: one attribute per group, and the source of each value."""

    name: typing.ClassVar[str]  # the file that users start
    required: typing.ClassVar[tuple[str, ...]]  # options without a default that must be set
    _origins: typing.ClassVar[Mapping[str, str]] = types.MappingProxyType({})  # field -> the source of its value; set per object

    @classmethod
    def group_names(cls) -> tuple[str, ...]:
        """Return the attributes that contain the groups, in the order of help and documentation."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def origin(self, field: str) -> str:
        """Return the source of the value, for the start of an error line: `--seed` or `--config_file x.toml, key [training] seed`."""
        return self._origins.get(field, f"--{field}")

    def given(self, field: str) -> bool:
        """Whether the user set the option, on the command line or in the file."""
        return field in self._origins


@dataclass(frozen=True)
class Tool(Script):
    """Base of the dataclasses of the tools around training: no --config_file, and possibly arguments without a flag."""

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
    """Declare an option as the default of a dataclass field; its type is the field's annotation, whose Literal also lists the choices.

    `at_least` and `at_most` bound each number (inclusive). A `secret` value is never shown, logged or written. `path` says what the option
    names on disk, which is checked before anything is read (`rules/declared_paths.py`).
    """
    facts = dict(
        help=help, choices=choices, aliases=aliases, at_least=at_least, at_most=at_most, secret=secret, path=path,
        also_numbers=also_numbers, also_fraction=also_fraction, leniency=leniency,
    )  # fmt: skip
    return dataclasses.field(default=default, repr=not secret, metadata=facts)


def needed(help: str, *, path: PathUse | None = None) -> Any:
    """Declare an option without a default: its tool lists it in `required` and does not run without it; its type has no None."""
    return opt(None, help, path=path)


def word(help: str, *, path: PathUse | None = None) -> Any:
    """Declare an argument that a tool takes without a flag and always needs, such as the folder of the images."""
    return dataclasses.field(default=None, metadata=dict(help=help, choices=(), positional=True, path=path))


Answer = typing.TypeVar("Answer")


def _once_each(answer: Callable[[type[Script]], Answer]) -> Callable[[type[Script]], Answer]:
    """Cache `answer` per script. (Type checkers do not accept a class as hashable for `functools.cache`.)"""
    answers: dict[type[Script], Answer] = {}

    @functools.wraps(answer)
    def remembered(spec: type[Script]) -> Answer:
        if spec not in answers:
            answers[spec] = answer(spec)
        return answers[spec]

    return remembered


@_once_each
def groups_of(spec: type[Script]) -> dict[str, type[DataclassInstance]]:
    """Return the groups of a script: attribute name -> dataclass of its options, in the order of help and documentation."""
    hints = typing.get_type_hints(spec)
    return {name: hints[name] for name in spec.group_names()}


def title_of(group: type) -> str:
    """The heading of a group: the first line of its docstring."""
    return (group.__doc__ or "").strip().splitlines()[0]


@_once_each
def options_of(spec: type[Script]) -> tuple[Option, ...]:
    """Return all options of a script in order of declaration; a duplicate name is a bug."""
    options = [option for group, kind in groups_of(spec).items() for option in _options_of_group(group, kind)]
    names = [name for option in options for name in option.names]
    assert len(names) == len(set(names)), f"declared twice: {sorted({name for name in names if names.count(name) > 1})}"
    return tuple(options)


def options_table(options: Script) -> dict[str, object]:
    """Return all options by field name, to write or compare them. For a single value read its section: `options.training.seed`."""
    return {option.field: getattr(getattr(options, option.group), option.field) for option in options_of(type(options))}


def section_table(*sections: DataclassInstance) -> dict[str, object]:
    """Return the options of some sections (groups) by field name."""
    return {field.name: getattr(section, field.name) for section in sections for field in dataclasses.fields(section)}


S = typing.TypeVar("S", bound=Script)


def build(spec: type[S], values: Mapping[str, object], origins: Mapping[str, str]) -> S:
    """Create the options object from `values`, with defaults for the rest; `origins` is the source of each value."""
    groups = {}
    for group, kind in groups_of(spec).items():
        mine = {field.name for field in dataclasses.fields(kind)}
        groups[group] = kind(**{name: value for name, value in values.items() if name in mine})
    options = spec(**groups)
    object.__setattr__(options, "_origins", dict(origins))
    return options


def _options_of_group(group: str, kind: type[DataclassInstance]) -> list[Option]:
    hints = typing.get_type_hints(kind)
    options = []
    for field in dataclasses.fields(kind):
        inner, is_list, optional = _unfold(hints[field.name])
        optional |= field.default is None and not field.metadata.get("positional")  # `needed`: an empty value counts as not set
        facts = dict(field.metadata)
        if typing.get_origin(inner) is typing.Literal:  # its texts are the choices
            inner, facts["choices"] = str, typing.get_args(inner)
        assert inner is not Path or facts["path"] is not None, f"{field.name}: say with path=… what it names on the disk"
        options.append(
            Option(group=group, field=field.name, type=inner, is_list=is_list, optional=optional, default=field.default, **facts)
        )
    return options


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
