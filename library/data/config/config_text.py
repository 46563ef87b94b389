"""A TOML or JSON file as plain values, with its syntax faults told by line and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from library.errors import UserError

_CURLY = tuple("“”„‟‘’‚‛「」『』«»＂＇`´")
_INDENTATION = re.compile(r"^[ \t\u00a0\u3000]+", re.MULTILINE)  # with the special spaces that come along from web pages


def read_text(path: Path, what: str) -> str:
    """The file's UTF-8 text (a BOM is dropped); UserError when it is missing, a folder or of another encoding."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        raise UserError(f"{what} {path}: is not UTF-8 text (byte {fault.start}); save it again with encoding UTF-8") from None
    except IsADirectoryError:
        raise UserError(f"{what} {path}: is a folder; name the file") from None
    except PermissionError:
        hint = "is a folder; name the file" if path.is_dir() else "may not be read; check its permissions"
        raise UserError(f"{what} {path}: {hint}") from None
    except OSError as fault:
        from library.data.config.nearby_paths import near_names

        raise UserError(f"{what} {path}: cannot be opened ({fault.strerror}){near_names(path)}") from None


def read_tree(path: Path, what: str) -> dict[str, object]:
    """The top-level table of a .toml or .json file; UserError with line and remedy for a syntax fault."""
    text = read_text(path, what)
    tree = _json(path, text, what, _once) if path.suffix.lower() == ".json" else _toml(path, text, what)
    if not isinstance(tree, dict):
        raise UserError(f"{what} {path}: expected a table ({{…}}) at the top, found {type(tree).__name__}")
    return tree


def read_metadata_table(path: Path, what: str) -> dict[str, object]:
    """The table of a metadata file, image key -> entry, whatever its name ends like; UserError when it is none."""
    table = _json(path, read_text(path, what), what)
    if not isinstance(table, dict):
        raise UserError(f'{what} {path}: expected {{"image": {{"caption": "…"}}, …}}, found a {type(table).__name__}')
    return table


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON table of which no key stands twice; json itself would take the last one in silence."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise _Twice(next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])))
    return table


class _Twice(Exception):
    """A key that stands twice in one table of a JSON file."""


def _json(path: Path, text: str, what: str, table: Callable[[list[tuple[str, object]]], object] | None = None) -> object:
    try:
        return json.loads(text, object_pairs_hook=table)
    except _Twice as fault:
        raise UserError(f"{what} {path}: '{fault}' stands twice in one table; take one of them out") from None
    except RecursionError:
        raise UserError(f"{what} {path}: is nested too deeply to be such a file") from None
    except json.JSONDecodeError as fault:
        line = text.splitlines()[fault.lineno - 1].strip() if fault.lineno <= len(text.splitlines()) else ""
        whole = text.rstrip()
        at_its_end = fault.pos >= len(whole) or not whole.endswith(("}", "]"))
        cut = "; it ends in the middle, so it is cut short: take an older copy" if at_its_end else ""
        if text[fault.pos : fault.pos + 1] in ("}", "]", ",") and text[: fault.pos].rstrip().endswith((",", "[", "{")):
            cut = "; behind the last entry there may be no comma: take it out"
        place = f"{path}, line {fault.lineno}"
        raise UserError(f"{what} {place}: is not JSON: {fault.msg} at column {fault.colno}: {line[:80]}{cut}") from None


def _toml(path: Path, text: str, what: str) -> object:
    import toml

    try:
        return toml.loads(_INDENTATION.sub(" ", text))
    # The package lets some faults through as bare exceptions.
    except (toml.TomlDecodeError, AttributeError, IndexError, KeyError, TypeError, ValueError) as fault:
        number = getattr(fault, "lineno", None)
        lines = text.splitlines()
        if isinstance(number, int) and 0 < number <= len(lines):
            line = lines[number - 1].strip()
            place = f", line {number}"
        else:
            line, place = "", ""
        reason = getattr(fault, "msg", str(fault))
        raise UserError(f"{what} {path}{place}: is not TOML: {_remedy(reason, line)}" + (f": {line[:100]}" if line else "")) from None


def _remedy(reason: str, line: str) -> str:
    """The package's reason and, where the cause is a usual one, what to write instead."""
    lower = reason.lower()
    if "has no attribute" in lower:
        return "one name stands as a table and as a list; write [[datasets]] and [[datasets.subsets]] with double brackets throughout"
    if "\\" in line and '"' in line:
        return "a backslash between double quotes starts a special sign; write the path in single quotes ('C:\\dir') or with /"
    if "homogen" in lower or "mixed" in lower or "not a homogeneous" in lower:
        return "the numbers in [ ] must be all whole or all with a decimal point ([2.0, 4.0], not [2, 4.0])"
    if "already exists" in lower or "duplicate" in lower:
        return f"a key or table stands there twice ({reason.strip()})"
    value = line.partition("=")[2].strip()
    if value[:1] in _CURLY or line[:1] in _CURLY:
        return "text stands between straight quotes, ' or \", not between “ ” or ‘ ’"
    if "unterminated" in lower or "unbalanced quotes" in lower or "after a closed string" in lower:
        return "text ends with the quote that it begins with; a path with ' in it stands between double quotes, with / for each backslash"
    if re.fullmatch(r"[\[(]?\s*\d+\s*[,;x× ]\s*\d+\s*[\])]?\s*(#.*)?", value):
        return "two numbers stand in square brackets with a comma between them, e.g. resolution = [512, 768]"
    if value[:1].isalpha() and value.split("#")[0].strip() not in ("true", "false"):
        return f"text needs quotes, and truth values are true or false in small letters ({reason.strip()})"
    return reason.strip()
