"""Convert what a user or a front-end wrote, on the command line or in TOML, to a value of the option's type.

Accepts what sd-scripts accepts if its meaning is clear: 0 and 1 for a switch, integers written 2.0, numbers in quotation marks, `[]` and
`""` for "not set", one value for a list of one and a list of one for its value, and what the option's `Leniency` allows. Refuses anything
else with a message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from library.options.declare import Option
from library.options.suggest import closest
from library.parsing.signs import is_text
from library.words import cut, quoted

Single = bool | int | float | str | Path
Value = Single | tuple[Single, ...] | None

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Reading:
    """The parsed value; `is_set` is False if the text means "not set". `warning` says what was changed."""

    value: Value = None
    is_set: bool = True
    warning: str = ""


NOT_SET = Reading(is_set=False)


def from_text(option: Option, text: str) -> Reading:
    """Parse `text`, one word of a command line; raises ValueError with the reason and the remedy."""
    whole = text.strip().lstrip("+-").replace("_", "").isdecimal()
    if option.type is int and not option.also_fraction and not whole:
        number = _as_float(text)
        remedy = "" if number is None else f"; write {round(number)}{'' if number.is_integer() else ' or another whole number'}"
        raise ValueError(f"expected {expected(option)}, not {quoted(text)}{remedy}")
    return _from_word(option, text)


def from_words(option: Option, words: Sequence[str]) -> Reading:
    """Parse the words after a flag, one word for an option with one value; raises ValueError as `from_text` does."""
    if not option.is_list:
        return _first([from_text(option, word) for word in words])
    return _joined([from_text(option, part) for word in words for part in _several(option, word)])


def from_toml(option: Option, value: object) -> Reading:
    """Parse a TOML value, lists included; raises ValueError with the reason and the remedy."""
    if option.also_numbers and _is_numbers(value):
        return Reading(",".join(str(part) for part in (value if isinstance(value, list) else [value])))
    parts = value if isinstance(value, list) else [value]
    if option.is_list:
        several = [one for part in parts for one in (_several(option, part) if isinstance(part, str) else [part])]
        return _joined([_one_from_toml(option, part) for part in several]) if several else NOT_SET
    if len(parts) > 1 and not option.leniency.first_of_several:
        raise ValueError(f"expected {expected(option)}, not a list; write {option.field} = {_literal(parts[0], option)}")
    return _first([_one_from_toml(option, part) for part in parts]) if parts else NOT_SET


def _first(readings: Sequence[Reading]) -> Reading:
    """Return the first of one or more, with a warning if another says something else: sd-scripts takes a rate for each text encoder."""
    first = readings[0]
    if first.warning or all(other.value == first.value for other in readings):
        return first
    return replace(first, warning=f"{len(readings)} different values are given, and the first ({first.value}) is used; keep one")


def is_empty(option: Option, text: str) -> bool:
    """Whether a word of a command line is empty for this option; spaces alone may be a tag separator."""
    blank_text = bool(text) and option.type is str and option.path is None and not option.choices
    return not (text.strip() or blank_text or option.leniency.empty_is_value)


def takes_no_value(option: Option) -> Reading | None:
    """Return what a flag without a value means for an option that is a switch in sd-scripts and a choice of words here; None for others."""
    return Reading(_word_of_switch(option, True)) if _is_switch_of_words(option) else None


def as_json(value: object) -> object:
    """Convert an option's value for JSON: tuples to lists, paths and other unknown types to text."""
    if isinstance(value, tuple | list):
        return [as_json(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def expected(option: Option) -> str:
    """What the option takes, for help and error lines: `a whole number, at least 1`."""
    text = "one of " + ", ".join(map(str, option.choices)) if option.choices else KINDS[option.type]
    if option.also_fraction:
        text += " or a fraction below 1"
    if option.at_least is not None and option.at_most is not None:
        text += f" from {_figure(option.at_least)} to {_figure(option.at_most)}"
    elif option.at_least is not None:
        text += f", at least {_figure(option.at_least)}"
    return text + (" (0 = off)" if option.leniency.zero_is_off else "")


def _several(option: Option, word: str) -> list[str]:
    """Split a word of a list: the word itself, unless the option allows several values in one word."""
    return [part.strip() for part in word.split(",") if part.strip()] or [word] if option.leniency.commas else [word]


def _joined(parts: Sequence[Reading]) -> Reading:
    """Join the parts of a list that are set."""
    values: list[Single] = []
    for part in parts:
        assert not isinstance(part.value, tuple)
        if part.is_set and part.value is not None:
            values.append(part.value)
    return Reading(tuple(values), warning="; ".join(part.warning for part in parts if part.warning))


def _one_from_toml(option: Option, value: object) -> Reading:
    if isinstance(value, str) and _says_nothing(option, value):
        return NOT_SET
    if option.type is bool:
        return Reading(_switch(option, value))
    if option.type in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"expected {expected(option)}{_shown(option, value)}")
        return _from_word(option, value if isinstance(value, str) else repr(value))
    if isinstance(value, bool) and _is_switch_of_words(option):
        return Reading(_word_of_switch(option, value))
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool) and not option.choices):
        return _from_word(option, str(value))
    remedy = "write it in quotation marks" if option.secret else f'put it in quotation marks: {option.field} = "{value}"'
    raise ValueError(f"expected {KINDS[option.type]}{_shown(option, value)}; {remedy}")


def _says_nothing(option: Option, text: str) -> bool:
    """Whether a TOML text means "not set"."""
    word = text.strip().lower()
    return (not word and not option.leniency.empty_is_value) or (word in ("none", "null") and word not in option.choices)


def _switch(option: Option, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _SWITCHES:
        return _SWITCHES[value.strip().lower()]
    meant = "false" if str(value).strip().lower() in ("no", "off") else "true"
    raise ValueError(f"expected true or false{_shown(option, value)}; write {option.field} = {meant}")


def _is_switch_of_words(option: Option) -> bool:
    return {"on", "off"} <= set(option.choices)


def _word_of_switch(option: Option, on: bool) -> str:
    """Return `true` for an option with the choices on and off, and `auto` for an option that has it."""
    return "off" if not on else "auto" if "auto" in option.choices else "on"


def _from_word(option: Option, text: str) -> Reading:
    if text.strip().lower() in option.leniency.of_other_models:
        return Reading(
            option.default, warning=f"{text.strip()} is for other models, so {option.default} is used; expected {expected(option)}"
        )
    if option.type is str and option.path is None and not is_text(text):  # a path may have such a name; nothing else can use or save it
        shown = "has a character" if option.secret else f"{cut(text, 40)!a} has a character"
        raise ValueError(f"{shown} that is not valid text; type it again, or remove it")
    if option.type not in (int, float):
        return Reading(_chosen(option, Path(text) if option.type is Path else text))
    number = _whole(option, text.strip()) if option.type is int else _number(option, text.strip())
    return _lenient(option, number) or Reading(_bounded(option, number))


def _lenient(option: Option, number: float) -> Reading | None:
    """Return what a number that the option does not take means; None if the option is strict."""
    ways = option.leniency
    if (ways.zero_is_off and number == 0) or (ways.negative_is_off and number < 0):
        return Reading(option.default)
    larger: float | None = None
    if ways.next_choice and number > 0 and number not in option.choices:
        larger = next((choice for choice in sorted(option.choices) if choice > number), max(option.choices))
    if ways.raised_to_least and option.at_least is not None and 0 < number < option.at_least:
        larger = int(option.at_least)
    if larger is None:
        return None
    return Reading(larger, warning=f"{_figure(number)} is not possible, so {_figure(larger)} is used; expected {expected(option)}")


def _whole(option: Option, text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        percent = option.also_fraction and text.endswith("%")
        number = _as_float(text.removesuffix("%") if percent else text)
    if number is not None and percent:
        number /= 100
    if number is not None and option.also_fraction and 0 < number < 1:
        return number
    if number is not None and number.is_integer():
        return int(number)
    remedy = "" if number is None else f"; write {round(number)} or another whole number"
    raise ValueError(f"expected {expected(option)}, not {quoted(text)}{remedy}")


def _number(option: Option, text: str) -> float:
    number = _as_float(text)
    if number is None:
        remedy = f"; write {text.replace(',', '.')}, with a decimal point" if _as_float(text.replace(",", ".")) is not None else ""
        raise ValueError(f"expected {expected(option)}, not {quoted(text)}{remedy}")
    return number


def _bounded(option: Option, number: float) -> float:
    too_small = option.at_least is not None and number < option.at_least
    too_large = option.at_most is not None and number > option.at_most
    if too_small or too_large or (option.choices and number not in option.choices):
        raise ValueError(f"expected {expected(option)}, not {_figure(number)}")
    return number


def _chosen(option: Option, value: str | Path) -> str | Path:
    if not option.choices or value in option.choices:
        return value
    same = [choice for choice in option.choices if str(choice).lower() == str(value).lower()]
    near = same[0] if same else closest(str(value), [str(choice) for choice in option.choices])
    raise ValueError(f"expected {expected(option)}, not {quoted(value)}" + (f"; did you mean {near}?" if near else ""))


def _is_numbers(value: object) -> bool:
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts)


def _as_float(text: str) -> float | None:
    """Return `text` as a finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _literal(value: object, option: Option) -> str:
    return "…" if option.secret else (f'"{value}"' if isinstance(value, str) else str(value))


def _shown(option: Option, value: object) -> str:
    if option.secret:
        return ""
    return f", not {str(value).lower()}" if isinstance(value, bool) else f", not {quoted(value)}"


def _figure(number: float) -> str:
    if isinstance(number, int):
        return quoted(number)
    return str(int(number)) if float(number).is_integer() else str(number)
