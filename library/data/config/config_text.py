"""Reads a TOML or JSON file into plain values; a syntax error names line and remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from library.errors import UserError, coded
from library.parsing.bounds import TooMuch
from library.parsing.json_text import JsonFault, is_json, parse_json
from library.parsing.toml_text import CLASH, QUOTE_TEXT, TomlFault, lacks_quotes, parse_toml
from library.paths.faults import file_fault
from library.paths.look import Thing, look
from library.paths.opening import read_text as text_of
from library.words import named

_CURLY = tuple("“”„‟‘’‚‛「」『』«»＂＇`´")
_INDENTATION = re.compile(r"^[ \t\u00a0\u3000]+", re.MULTILINE)  # includes the special spaces in text copied from web pages


def read_text(path: Path, what: str) -> str:
    """The file's UTF-8 text without BOM. Raises UserError if the file is missing, a folder or not UTF-8."""
    if look(path).thing is not Thing.MISSING and (fault := file_fault(path)):
        raise UserError(fault.reworded(f"{what}: {fault}"))
    try:
        return text_of(path)
    except UnicodeDecodeError as fault:
        raise UserError(
            coded("CFG-001", f"{what} {path}: is not UTF-8 text (byte {fault.start}); save it again with encoding UTF-8")
        ) from None
    except OSError as fault:
        from library.data.config.nearby_paths import near_names

        raise UserError(coded("CFG-004", f"{what} {path}: cannot be opened ({fault.strerror}){near_names(path)}")) from None


def read_tree(path: Path, what: str) -> dict[str, object]:
    """The top-level table of a .toml or .json file; a syntax error raises UserError with line and remedy."""
    text = read_text(path, what)
    tree = _json(path, text, what, _once) if path.suffix.lower() == ".json" else _toml(path, text, what)
    if not isinstance(tree, dict):
        raise UserError(coded("CFG-003", f"{what} {path}: expected a table ({{…}}) at the top, found {type(tree).__name__}"))
    return tree


def read_metadata_table(path: Path, what: str) -> tuple[dict[str, object], list[str]]:
    """The table of a metadata file (image key -> entry) and findings. Raises UserError if the file has another form.

    The file is one JSON table, or rows with `file_name` and `text` as Diffusers reads them: JSON Lines or a JSON list. If a key appears
    twice, the first entry counts.
    """
    text = read_text(path, what)
    again: list[str] = []

    def first_counts(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table: dict[str, object] = {}
        for key, value in pairs:
            if key in table:
                again.append(key)
            table.setdefault(key, value)
        return table

    lines = _lines_of_rows(path, text)
    content: object = [_json(path, line, what, first_counts, number) for number, line in lines] if lines else None
    if content is None:
        content = _json(path, text, what, first_counts)
    if isinstance(content, dict) and isinstance(content.get("file_name"), str):
        content = [content]
    rows = bool(lines) or (isinstance(content, list) and content and all(isinstance(row, dict) for row in content))
    table = _of_rows(path, content, what, again) if rows and isinstance(content, list) else content
    if not isinstance(table, dict):
        raise UserError(coded("CFG-003", f'{what} {path}: expected {{"image": {{"caption": "…"}}, …}}, found a {type(table).__name__}'))
    return table, _said_again(path, again)


def _lines_of_rows(path: Path, text: str) -> list[tuple[int, str]]:
    """The lines of a JSON Lines file with their numbers; empty if the text is a single JSON value."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) < 2 or is_json(text) or not (path.suffix.lower() == ".jsonl" or is_json(lines[0][1])):
        return []
    return lines


def _of_rows(path: Path, rows: list[object], what: str, again: list[str]) -> dict[str, object]:
    """Convert rows to a table: `file_name` is the key, `text` the caption unless the row has a `caption`."""
    table: dict[str, object] = {}
    for number, row in enumerate(rows, start=1):
        name = row.get("file_name") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(name, str) or not name.strip():
            raise UserError(
                coded("DATA-007", f'{what} {path}: row {number} has no file_name; write each row as {{"file_name": "a.png", "text": "…"}}')
            )
        entry = {key: value for key, value in row.items() if key not in ("file_name", "text")}
        if "text" in row:
            entry.setdefault("caption", row["text"])
        if name in table:
            again.append(name)
        table.setdefault(name, entry)
    return table


def _said_again(path: Path, again: list[str]) -> list[str]:
    if not again:
        return []
    names = named([f"'{key}'" for key in dict.fromkeys(again)])
    verb = "stands" if len(set(again)) == 1 else "stand"
    return [f"{path}: {names} {verb} there more than once, so only the first counts; remove the others"]


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON table; raises _Twice if a key appears twice, where json would silently use the last one."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise _Twice(next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])))
    return table


class _Twice(Exception):
    """A key appears twice in one table of a JSON file."""


def _json(path: Path, text: str, what: str, table: Callable[[list[tuple[str, object]]], object], first_line: int = 1) -> object:
    """Parse JSON text that starts on `first_line` of the file; `table` builds each of its tables."""
    try:
        return parse_json(text, table)
    except _Twice as fault:
        raise UserError(coded("CFG-009", f"{what} {path}: '{fault}' appears twice in one table; remove one of them")) from None
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"{what} {path}: {fault}")) from None
    except JsonFault as fault:
        line = text.splitlines()[fault.lineno - 1].strip() if fault.lineno <= len(text.splitlines()) else ""
        whole = text.rstrip()
        at_its_end = not whole or (whole.startswith(("{", "[")) and (fault.pos >= len(whole) or not whole.endswith(("}", "]"))))
        cut = "; it is truncated: use an older copy" if at_its_end else ""
        if text[fault.pos : fault.pos + 1] in ("}", "]", ",") and text[: fault.pos].rstrip().endswith((",", "[", "{")):
            cut = "; the last entry must not end in a comma: remove it"
        place = f"{path}, line {fault.lineno + first_line - 1}"
        raise UserError(coded("CFG-002", f"{what} {place}: is not JSON: {fault.msg} at column {fault.colno}: {line[:80]}{cut}")) from None


def _toml(path: Path, text: str, what: str) -> object:
    try:
        return parse_toml(_INDENTATION.sub(" ", text))
    except TooMuch as fault:
        raise UserError(coded("CFG-012", f"{what} {path}: {fault}")) from None
    except TomlFault as fault:
        number, reason = fault.line, fault.reason
        lines = text.splitlines()
        if number is not None and 0 < number <= len(lines):
            line = lines[number - 1].strip()
            place = f", line {number}"
        else:
            line, place = "", ""
        raise UserError(
            coded("CFG-002", f"{what} {path}{place}: is not TOML: {f'{line[:100]}; ' if line else ''}{_remedy(reason, line)}")
        ) from None


def _remedy(reason: str, line: str) -> str:
    """The parser's reason; for common mistakes, what to write instead."""
    lower = reason.lower()
    if reason == CLASH:
        return "one name is used as a table and as a list; write [[datasets]] and [[datasets.subsets]] with double brackets throughout"
    if "\\" in line and '"' in line:
        return "a backslash between double quotes starts an escape sequence; write the path in single quotes ('C:\\dir') or with /"
    if "homogen" in lower or "mixed" in lower or "not a homogeneous" in lower:
        return "the numbers in [ ] must be all whole or all with a decimal point ([2.0, 4.0], not [2, 4.0])"
    if "already exists" in lower or "duplicate" in lower:
        return f"a key or table appears twice ({reason.strip()})"
    value = line.partition("=")[2].strip()
    if value[:1] in _CURLY or line[:1] in _CURLY:
        return "text must be between straight quotes, ' or \", not between “ ” or ‘ ’"
    if "unterminated" in lower or "unbalanced quotes" in lower or "after a closed string" in lower:
        return "text must end with the quote it starts with; write a path that contains ' between double quotes, with / for each backslash"
    if re.fullmatch(r"[\[(]?\s*\d+\s*[,;x× ]\s*\d+\s*[\])]?\s*(#.*)?", value):
        return "write two numbers in square brackets, separated by a comma, e.g. resolution = [512, 768]"
    if value.split("#")[0].strip().lower() in ("true", "false", "yes", "no", "on", "off"):
        return f"write true or false, in lower case ({reason.strip()})"
    if lacks_quotes(line):
        return QUOTE_TEXT
    return reason.strip()
