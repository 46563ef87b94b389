"""From what a user wrote, on the command line or in TOML, to a value of the option's type; what does not fit is told in words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from library.options.declare import Option

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def from_text(option: Option, text: str) -> Any:
    """The value that `text`, one word of a command line, stands for; raises ValueError with the reason and the remedy."""
    if option.optional and not text.strip():
        return None  # --vae "$VAE" with an empty variable
    if option.type is int:
        return _bounded(option, _whole(option, text))
    if option.type is float:
        return _bounded(option, _number(option, text))
    return _chosen(option, Path(text) if option.type is Path else text)


def from_toml(option: Option, value: object) -> Any:
    """The value that a TOML value stands for, lists included; raises ValueError with the reason and the remedy."""
    if option.also_numbers and _is_numbers(value):
        return ",".join(str(part) for part in (value if isinstance(value, list) else [value]))
    if not option.is_list:
        return _one_from_toml(option, value)
    if not isinstance(value, list):
        raise ValueError(f"expected a list{_shown(option, value)}; write {option.field} = [{_literal(value, option)}]")
    return tuple(_one_from_toml(option, part) for part in value)


def as_json(value: object) -> object:
    """An option's value as JSON has it: lists for tuples, paths and all that JSON does not know as text."""
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
    return text


def _one_from_toml(option: Option, value: object) -> Any:
    if isinstance(value, str) and option.optional and (not value.strip() or value.lower() in ("none", "null")):
        return None
    if option.type is bool and not isinstance(value, bool):
        raise ValueError(
            f"expected true or false{_shown(option, value)}; write {option.field} = {_nearest_bool(value)} without quotation marks"
        )
    if option.type in (int, float):
        return _bounded(option, _toml_number(option, value))
    if option.type is bool:
        return value
    if isinstance(value, str):
        return _chosen(option, Path(value) if option.type is Path else value)
    if isinstance(value, list):
        raise ValueError(f'expected {KINDS[option.type]}, not a list; write {option.field} = "…"')
    written = f"{option.field} = {_quoted(option, value)}"
    raise ValueError(f"expected {KINDS[option.type]}{_shown(option, value)}; put it in quotation marks: {written}")


def _toml_number(option: Option, value: object) -> int | float:
    if isinstance(value, str):
        remedy = f"; write {option.field} = {value.strip()} without quotation marks" if _reads_as(option, value) else ""
        raise ValueError(f"expected {expected(option)}{_shown(option, value)}, which is text{remedy}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected {expected(option)}{_shown(option, value)}")
    if option.type is int:
        return _whole(option, repr(value))
    return _number(option, repr(value))


def _whole(option: Option, text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        if option.also_fraction and _is_float(text) and 0 < float(text) < 1:
            return float(text)
        try:
            number = float(text)
            remedy = f"; write {int(number)}" if number.is_integer() else f"; write {round(number)} or another whole number"
        except (ValueError, OverflowError):
            remedy = ""
        raise ValueError(f"expected {expected(option)}, not {text!r}{remedy}") from None


def _number(option: Option, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        remedy = f"; write {text.replace(',', '.')}, with a point" if _is_float(text.replace(",", ".")) else ""
        raise ValueError(f"expected {expected(option)}, not {text!r}{remedy}") from None
    if not math.isfinite(number):
        raise ValueError(f"expected {expected(option)}, not {text!r}")
    return number


def _bounded(option: Option, number: float) -> Any:
    too_small = option.at_least is not None and number < option.at_least
    too_large = option.at_most is not None and number > option.at_most
    if too_small or too_large or (option.choices and number not in option.choices):
        raise ValueError(f"expected {expected(option)}, not {_figure(number)}")
    return number


def _chosen(option: Option, value: object) -> Any:
    if not option.choices or value in option.choices:
        return value
    same = [choice for choice in option.choices if str(choice).lower() == str(value).lower()]
    from library.options.suggest import closest

    near = same[0] if same else closest(str(value), [str(choice) for choice in option.choices])
    raise ValueError(f"expected {expected(option)}, not {value!r}" + (f"; did you mean {near}?" if near else ""))


def _is_numbers(value: object) -> bool:
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts)


def _reads_as(option: Option, text: str) -> bool:
    try:
        return from_text(option, text) is not None
    except ValueError:
        return False


def _is_float(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _nearest_bool(value: object) -> str:
    return "false" if str(value).strip().lower() in ("false", "no", "off", "0", "") else "true"


def _literal(value: object, option: Option) -> str:
    return "…" if option.secret else (f'"{value}"' if isinstance(value, str) else str(value))


def _quoted(option: Option, value: object) -> str:
    return '"…"' if option.secret else f'"{value}"'


def _shown(option: Option, value: object) -> str:
    if option.secret:
        return ""
    return f", not {str(value).lower()}" if isinstance(value, bool) else f", not {value!r}"


def _figure(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)
