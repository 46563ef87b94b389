"""Classes that the user names on the command line, and their `key=value` arguments."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from library.errors import UserError, coded, first_line
from library.options.suggest import closest
from library.packages import install_command
from library.parsing.literal import parse_literal
from library.words import counted, quoted

_WORDS = {"true": True, "false": False, "none": None}
_PLAIN_TEXT = re.compile(r"(?=.*[^\W\d]|.*:)[\w.:,/ -]+")  # contains a letter or a colon, so that a mistyped number is not read as text


def parse_arguments(option: str, items: Sequence[str] | None) -> dict[str, Any]:
    """Parse `["betas=.9,.999", "decouple=True"]` to `{"betas": (0.9, 0.999), "decouple": True}`; values are Python literals, never
    executed.

    `true`, `false` and `none` may have any letter case; other plain words are text. The UserError lists every invalid item.
    """
    values: dict[str, Any] = {}
    problems = []
    for item in items or ():
        key, equals, text = (part.strip() for part in item.partition("="))
        if not (equals and key.isidentifier()):
            problems.append(coded("OPT-010", f"{option} {quoted(item)}: is not in the form key=value (no spaces around = and commas)"))
        elif key in values:
            problems.append(coded("OPT-010", f"{option} {quoted(item)}: {key} is given twice; remove one"))
        else:
            try:
                values[key] = _literal(text)
            except ValueError:
                problems.append(
                    coded(
                        "OPT-010",
                        f"{option} {quoted(item)}: {quoted(text)} is not a number, tuple (0.9,0.99), True, False, None or a plain word",
                    )
                )
    if problems:
        raise UserError(*problems)
    return values


def check_arguments(
    option: str, owner: str, target: Callable[..., Any], arguments: Mapping[str, Any], ours: Mapping[str, str], needs_all: bool = True
) -> None:
    """Raise UserError with every argument that `target` does not take or, with `needs_all`, lacks.

    `ours` maps the arguments that the suite sets to the user's alternative ("use --learning_rate"; "" for none).
    """
    parameters = list(inspect.signature(target).parameters.values())
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    accepted = sorted(named - set(ours))
    problems = []
    for key in arguments:
        if key in ours:
            problems.append(coded("OPT-011", f"{option} {key}: {ours[key] or 'is set by the suite; remove it'}"))
        elif not takes_all and key not in named:
            takes = ", ".join(accepted) or "nothing"
            problems.append(coded("OPT-011", f"{option} {key}: {owner} does not accept it{did_you_mean(key, accepted)}; it takes: {takes}"))
        elif key in named and (form := _other_form(arguments[key], inspect.signature(target).parameters[key].default)):
            problems.append(coded("OPT-011", f"{option} {key}={arguments[key]}: {owner} expects {form}"))
    required = [p.name for p in parameters if p.default is p.empty and p.name in named - set(ours) - set(arguments)]
    problems += [coded("OPT-011", f"{option}: {owner} needs {name}; add {option} {name}=…") for name in required if needs_all]
    if problems:
        raise UserError(*problems)


def _other_form(value: object, default: object) -> str:
    """What is expected if the value has another form than the class's default; "" for the same form and where a default says nothing."""
    if value is None:
        return ""
    if isinstance(default, bool):
        return "" if isinstance(value, bool | int) and value in (0, 1) else "True or False"
    if isinstance(default, int | float):
        return f"a number, such as {default}" if isinstance(value, str) else ""
    if isinstance(default, tuple) and default and all(part is None or isinstance(part, int | float) for part in default):
        numbers = isinstance(value, list | tuple) and not any(isinstance(part, str) for part in value)
        same = numbers and isinstance(value, list | tuple) and len(value) == len(default)
        return "" if same else f"{counted(len(default), 'number')}, such as {','.join(map(str, default))}"
    return ""


def import_class(option: str, dotted: str) -> type:
    """Import the class named `module.Class`; the UserError says which half is missing."""
    module_name, _, class_name = dotted.rpartition(".")
    module = import_package(option, dotted, module_name, f"the package that contains {module_name}")
    named = getattr(module, class_name, None)
    if not inspect.isclass(named):
        classes = [name for name, value in vars(module).items() if inspect.isclass(value)]
        raise UserError(coded("PKG-004", f"{option} {dotted}: {module_name} has no class {class_name}{did_you_mean(class_name, classes)}"))
    return named


def import_package(option: str, value: str, module_name: str, package: str) -> Any:
    """Import the module; the UserError says what to install, or why an installed package does not load."""
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        root = module_name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != root:
            raise UserError(
                coded("PKG-001", f"{option} {value}: {module_name} needs {error.name}: {install_command(error.name or root)}")
            ) from error
        remedy = install_command(package) if " " not in package else f"install {package}"
        raise UserError(coded("PKG-001", f"{option} {value}: {module_name} is not installed: {remedy}")) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            coded("PKG-002", f"{option} {value}: {module_name} is installed but cannot be imported: {first_line(error)}")
        ) from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" (did you mean X?)"` with the nearest known name, or `""`."""
    near = closest(word, known)
    return f" (did you mean {near}?)" if near else ""


def find_class(module: ModuleType, base: type | tuple[type, ...], name: str, left_out: Collection[str] = ()) -> type | None:
    """Return the class of `module` with this name, in any letter case, that derives from `base`."""
    return {key.lower(): value for key, value in classes_of(module, base).items() if key not in left_out}.get(name.lower())


def classes_of(module: ModuleType, base: type | tuple[type, ...]) -> dict[str, type]:
    """Public classes of `module` that derive from `base` (not `base` itself), by name."""
    bases = base if isinstance(base, tuple) else (base,)
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, bases) and value not in bases and not name.startswith("_")
    }


def _literal(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return parse_literal(text)
    except ValueError:
        if not _PLAIN_TEXT.fullmatch(text):
            raise ValueError(text) from None
        return text
