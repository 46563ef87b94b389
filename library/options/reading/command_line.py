"""Parse the words of a command line to values by option, and collect all errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from library.errors import Problem, coded
from library.options.declare import Option
from library.options.reading.unknown_option import remedy
from library.options.reading.values import Value, expected, from_text, from_words, is_empty, takes_no_value
from library.words import quoted

_CONTINUATIONS = ("\\", "^", "`")  # of pasted commands: sh, cmd, PowerShell


@dataclass
class CommandLine:
    """A parsed command line; `problems` and `warnings` are lines for the user, `repeated` are flags given more than once."""

    values: dict[str, Value] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    wants_help: bool = False


def read(options: Sequence[Option], argv: Sequence[str], of_a_tool: bool = False) -> CommandLine:
    """Parse `argv` (without the script's name). The last value of a repeated flag wins, as usual on command lines.

    For a tool's unknown flag, the nearest flag is suggested before the scripts that have it. If some options are arguments without a flag,
    a flag with one value takes only the next word, and the remaining words are those arguments.
    """
    flags = {f"--{name}": option for option in options for name in option.names}
    flags |= {f"-{name}": option for option in options for name in option.names if len(name) == 1}
    places = [option for option in options if option.positional]
    line = CommandLine()
    words = list(argv)
    strays: list[str] = []
    while words:
        word = words.pop(0)
        name, has_value, value = word.partition("=")
        if word in ("-h", "--help"):
            line.wants_help = True
        elif places and not word.strip():
            line.problems.append(coded("OPT-004", "an argument is empty, perhaps an unset shell variable; write its value"))
        elif word == "--" or not word.strip() or (places and word in _CONTINUATIONS):
            continue  # stray line continuations of a pasted command
        elif len(named := _abbreviated(name, flags)) == 1:
            line.warnings += [] if name in flags else [f"{name}: is short for {named[0].flag}; write the option that you mean in full"]
            _take(line, named[0], name, ([value] if has_value else None), words, bool(places))
        elif named:
            candidates = ", ".join(option.flag for option in named)
            line.problems.append(coded("OPT-002", f"{name}: matches {candidates}; write the one you want in full"))
            _rest(words, 0 if places else None)
        elif _is_flag(word):
            line.problems.append(coded("OPT-001", f"{_printable(name)}: unknown option{_meant(name, flags, of_a_tool)}"))
            _rest(words, 0 if places else None)  # its values, if any; they may be secret, so they are not shown
        else:
            strays.append(word)
    _place(line, places, strays)
    return line


def _abbreviated(name: str, flags: Mapping[str, Option]) -> list[Option]:
    """Return the options that `name` may abbreviate: the one with that name, or all that start with it, as in argparse."""
    if name in flags:
        return [flags[name]]
    if not name.startswith("--") or name == "--":
        return []
    return list({option.field: option for flag, option in flags.items() if flag.startswith(name)}.values())


def _place(line: CommandLine, places: Sequence[Option], strays: list[str]) -> None:
    """Assign the words that follow no flag to the options without one, in order."""
    open_places = [option for option in places if option.field not in line.values]
    for option, word in zip(open_places, strays, strict=False):
        line.values[option.field] = from_text(option, word).value
    remedy = "values with spaces need quotation marks"
    if any(": unknown option" in problem for problem in line.problems):
        return  # that flag may have one word too many
    for word in strays[len(open_places) :]:
        if places:
            line.problems.append(
                coded("OPT-003", f"{quoted(word)}: unexpected argument after {' '.join(option.field for option in places)}; {remedy}")
            )
        else:
            line.problems.append(coded("OPT-003", f"{quoted(word)}: unexpected argument that belongs to no option; {remedy}"))


def _take(line: CommandLine, option: Option, name: str, attached: list[str] | None, words: list[str], one_only: bool) -> None:
    """Read the values of one flag from `attached` (`--flag=value`) or the following words, and store them.

    With `one_only`, words without a flag may follow: only a list takes more than one.
    """
    if option.type is bool:
        stray = attached or (_rest(words, int(_says_truth(words))) if one_only else _rest(words))
        if stray:
            remedy = "remove the option" if stray[0].lower() in ("false", "no", "0", "off") else f"write {name} alone"
            line.problems.append(coded("OPT-005", f"{name}: is a switch and takes no value (found {quoted(stray[0])}); {remedy}"))
        else:
            line.values[option.field] = True
        return
    several = option.is_list or option.leniency.first_of_several
    texts = attached or _rest(words, 1 if one_only and not option.is_list else None)
    alone = takes_no_value(option)
    if not texts and alone is not None:
        texts = [str(alone.value)]
    if not texts and (not several or (option.is_list and option.path and not option.leniency.no_values)):  # empty: an unset shell variable
        line.problems.append(coded("OPT-004", f"{name}: the value is missing; expected {expected(option)}"))
        return
    if not several and len(texts) > 1:
        shown = "" if option.secret else f" (found {quoted(' '.join(texts))})"
        line.problems.append(coded("OPT-005", f"{name}: takes one value{shown}; a value with spaces needs quotation marks"))
        return
    if not texts and not option.is_list:
        return  # --text_encoder_lr without a value: None
    if any(is_empty(option, text) for text in texts):
        _take_empty(line, option, name, attached is not None)
        return
    try:
        reading = from_words(option, texts)
    except ValueError as reason:
        line.problems.append(coded("OPT-006", f"{name}: {reason}"))
        return
    line.warnings += [f"{name}: {reading.warning}"] if reading.warning else []
    if not reading.is_set:
        return
    value = reading.value
    if option.field in line.values and line.values[option.field] != value:
        line.repeated.append(option.field)
    line.values[option.field] = value


def _take_empty(line: CommandLine, option: Option, name: str, attached: bool) -> None:
    """Handle an empty value: an unset shell variable, or (`--vae=`) what a front-end writes for an option that is not set."""
    if not attached:
        line.problems.append(
            coded("OPT-004", f"{name}: the value is empty, perhaps an unset shell variable; write a value, or remove {name}")
        )
        return
    line.warnings.append(f"{name}: has no value after the =, so it is ignored")
    if option.optional and not option.is_list:
        line.values[option.field] = None  # overrides the file's value too


def _rest(words: list[str], at_most: int | None = None) -> list[str]:
    """Take the words up to the next flag, at most `at_most` of them."""
    taken: list[str] = []
    while words and not _is_flag(words[0]) and words[0] != "--" and (at_most is None or len(taken) < at_most):
        taken.append(words.pop(0))
    return [word for word in taken if word != "\\" and word != "^"] if len(taken) > 1 else taken


def _says_truth(words: Sequence[str]) -> bool:
    """Whether the next word is the value of a switch and not a separate argument."""
    return bool(words) and words[0].lower() in ("true", "false")


def _is_flag(word: str) -> bool:
    """Whether a word looks like a flag and not like a value; -0.5 and "- a text" are values."""
    name = word.partition("=")[0]
    if not name or name[0] not in "-–—" or len(name) == 1 or " " in name:
        return False
    try:
        float(name)
    except ValueError:
        return True
    return False


def _meant(name: str, flags: Mapping[str, Option], near_first: bool) -> str:
    known = {flag[2:]: option.field for flag, option in flags.items() if flag.startswith("--")}
    return "; " + remedy(name.strip("-–—"), known, dashes="--", near_first=near_first)


def _printable(name: str) -> str:
    return name if len(name) <= 60 else name[:60] + "…"
