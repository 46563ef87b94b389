"""Reads the words of a command line into values by option, and finds all that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from library.options.declare import Option
from library.options.elsewhere import remedy
from library.options.values import expected, from_text


@dataclass
class CommandLine:
    """What a command line said; `problems` are lines for the user, `repeated` the flags that came again with another value."""

    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    wants_help: bool = False


def read(options: Sequence[Option], argv: Sequence[str]) -> CommandLine:
    """Read `argv` (without the script's name). A flag given twice keeps its last value, as everywhere on command lines."""
    flags = {f"--{name}": option for option in options for name in option.names}
    line = CommandLine()
    words = list(argv)
    while words:
        word = words.pop(0)
        name, has_value, value = word.partition("=")
        if word in ("-h", "--help"):
            line.wants_help = True
        elif word == "--" or not word.strip():
            continue  # stray line continuations of a pasted command
        elif name in flags:
            _take(line, flags[name], name, ([value] if has_value else None), words)
        elif _is_flag(word):
            line.problems.append(f"{_printable(name)}: unknown option{_meant(name, flags)}")
            _rest(words)  # its values, if any; they may be secret, so they are not shown
        else:
            line.problems.append(f"{word!r}: a word that belongs to no option; values with spaces need quotation marks")
    return line


def _take(line: CommandLine, option: Option, name: str, attached: list[str] | None, words: list[str]) -> None:
    """Read the values of one flag from `attached` (`--flag=value`) or the words that follow, and file them."""
    if option.type is bool:
        stray = attached or _rest(words)
        if stray:
            remedy = "leave the option out" if stray[0].lower() in ("false", "no", "0", "off") else f"write {name} alone"
            line.problems.append(f"{name}: is a switch and takes no value (found {stray[0]!r}); {remedy}")
        else:
            line.values[option.field] = True
        return
    texts = attached or _rest(words)
    if not option.is_list and not texts:
        line.problems.append(f"{name}: a value is missing after it; expected {expected(option)}")
        return
    if not option.is_list and len(texts) > 1:
        found = "" if option.secret else f" (found {' '.join(texts)!r})"
        line.problems.append(f"{name}: takes one value{found}; a value with spaces needs quotation marks")
        return
    try:
        values = tuple(from_text(option, text) for text in texts)
    except ValueError as reason:
        line.problems.append(f"{name}: {reason}")
        return
    value = values if option.is_list else values[0]
    if option.field in line.values and line.values[option.field] != value:
        line.repeated.append(option.field)
    line.values[option.field] = value


def _rest(words: list[str]) -> list[str]:
    """Take the words up to the next flag."""
    taken = []
    while words and not _is_flag(words[0]) and words[0] != "--":
        taken.append(words.pop(0))
    return [word for word in taken if word != "\\" and word != "^"] if len(taken) > 1 else taken


def _is_flag(word: str) -> bool:
    """Whether a word is meant as a flag rather than as a value; -0.5 and "- a text" are values."""
    name = word.partition("=")[0]
    if not name or name[0] not in "-–—" or len(name) == 1 or " " in name:
        return False
    try:
        float(name)
    except ValueError:
        return True
    return False


def _meant(name: str, flags: Mapping[str, Option]) -> str:
    return "; " + remedy(name.strip("-–—"), [flag[2:] for flag in flags], dashes="--")


def _printable(name: str) -> str:
    return name if len(name) <= 60 else name[:60] + "…"
