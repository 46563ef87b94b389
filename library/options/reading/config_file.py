"""Read options from a --config_file, and write one for --output_config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from library.errors import Problem, UserError, coded
from library.options.declare import Option, Script, groups_of, options_of, options_table, title_of
from library.options.reading.unknown_option import UnknownKeys
from library.options.reading.values import Value, expected, from_toml
from library.parsing.bounds import TooMuch
from library.parsing.toml_text import TomlFault, escaped_string, parse_toml, toml_string
from library.paths.faults import file_fault
from library.paths.look import Thing, is_file, look
from library.paths.opening import read_text

_NOT_IN_A_FILE = ("config_file", "output_config")
_LINES = "write each line as name = value, text in quotation marks (Windows paths in 'single' ones), true and false in lower case"


def locate(name: str) -> Path:
    """Return the file for `--config_file name`; the ending .toml may be left out."""
    path = Path(name)
    if not path.name:  # a folder such as . or /
        return path
    with_ending = path.with_name(path.name + ".toml")
    return path if path.suffix == ".toml" or (look(path).thing is not Thing.MISSING and not is_file(with_ending)) else with_ending


@dataclass(frozen=True)
class FileOptions:
    """A parsed file: values by field, the source of each (`--config_file x.toml, key [training] seed`), errors and warnings."""

    values: dict[str, Value] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read(options: Sequence[Option], name: str) -> FileOptions:
    """Read the options in the file for `--config_file name`; keys without effect share one warning."""
    path = locate(name)
    place = f"--config_file {path}"
    if fault := file_fault(path):
        return FileOptions(problems=[fault.reworded(f"--config_file {fault}")])
    try:
        table = _load(path)
    except UserError as unread:
        return FileOptions(problems=[fault.reworded(f"{place}: {fault}") for fault in unread.problems])
    known = {name: option for option in options for name in option.names}
    unknown = UnknownKeys({name: option.field for name, option in known.items()})
    contents = FileOptions()
    for keys, value in _leaves(table):
        where = f"{place}, key {_spelled(keys)}"
        option = known.get(keys[-1])
        problem = _misplaced(keys, value)
        if problem is None:
            problem = unknown.add(keys[-1]) if option is None else _file(contents, option, value, where)
        if problem is not None:
            contents.problems.append(problem.reworded(f"{where}: {problem}"))
    line = unknown.line(place)
    contents.warnings.extend([line] if line else [])
    return contents


def _file(contents: FileOptions, option: Option, value: object, where: str) -> Problem | None:
    """Store the value, or return what is wrong with it."""
    try:
        reading = from_toml(option, value)
    except ValueError as reason:
        return coded("CFG-008", str(reason))
    if reading.warning:
        contents.warnings.append(f"{where}: {reading.warning}")
    if not reading.is_set:
        return None
    other = contents.origins.get(option.field, "")
    differs = bool(other) and contents.values[option.field] != reading.value
    contents.values[option.field], contents.origins[option.field] = reading.value, where
    where_else = other.rpartition(", key ")[2]
    return coded("CFG-009", f"set twice with different values, also as {where_else}; keep one of them") if differs else None


def text_of(options: Script) -> str:
    """Return the options as TOML: values other than the default as they are, the rest as comments, secrets never."""
    spec = type(options)
    values = options_table(options)
    lines = [f"# Options of {spec.name}. Remove the '# ' before a line to set its value; use this file with --config_file."]
    for group, kind in groups_of(spec).items():
        mine = [option for option in options_of(spec) if option.group == group and option.field not in _NOT_IN_A_FILE]
        if mine:
            lines += ["", "", f"[{group}]  # {title_of(kind)}"]
        for option in mine:
            lines += ["", f"# {option.help}", _entry(option, values[option.field])]
    return "\n".join(lines) + "\n"


def _entry(option: Option, value: object) -> str:
    if option.secret:
        return f"# {option.field}: never written to a file; set it on the command line"
    if value is None:
        return f"# {option.field} =  # not set; {expected(option)}"
    entry = f"{option.field} = {_toml(value)}"
    return entry if value != option.default else f"# {entry}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value)
    return toml_string(text) if "\\" in text else escaped_string(text)


def _load(path: Path) -> dict[str, Any]:
    """Load the file; the UserError says why it cannot be read. It does not quote the contents, which may be secret."""
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        raise UserError(coded("CFG-005", "options are read from TOML files (name = value lines) only"))
    try:
        return parse_toml(read_text(path))
    except UnicodeDecodeError:
        raise UserError(coded("CFG-001", "not UTF-8 text; save it as UTF-8 in your editor")) from None
    except OSError as reason:
        raise UserError(coded("CFG-004", f"cannot be read ({reason.strerror})")) from None
    except TooMuch as fault:
        raise UserError(coded("CFG-012", str(fault))) from None
    except TomlFault as fault:
        place = f"line {fault.line} is not" if fault.line else "not"
        raise UserError(coded("CFG-002", f"{place} valid TOML: {_syntax(fault.reason) if fault.line else _LINES}")) from None


def _syntax(reason: str) -> str:
    words = reason.lower()
    if "homogeneous" in words:
        return "numbers in a list must all have a decimal point, or all none ([1.0, 0.5])"
    if "escape" in words or "backslash" in words:
        return "a backslash in \"double\" quotation marks; put Windows paths in 'single' ones"
    if "duplicate" in words or "already exists" in words or "what?" in words:
        return "a key or section appears twice; keep one"
    return _LINES


def _leaves(table: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every key with its value; sections, also nested ones, only add to its location."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _misplaced(keys: tuple[str, ...], value: object) -> Problem | None:
    """Why this key cannot be in such a file at all, or None."""
    if keys[0] == "datasets" and isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return coded("CFG-007", "this is a dataset config; use the file with --dataset_config instead")
    if keys[-1] in _NOT_IN_A_FILE:
        return coded("CFG-007", "belongs on the command line, not in the file")
    return None


def _spelled(keys: tuple[str, ...]) -> str:
    return f"[{'.'.join(keys[:-1])}] {keys[-1]}" if len(keys) > 1 else keys[0]
