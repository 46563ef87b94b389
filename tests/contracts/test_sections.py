"""Options travel as sections that a type checker knows: outside library/options no value of theirs is read by a name in quotes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from library.options.declare import options_of
from library.options.groups.scripts import SCRIPTS
from library.options.tool_groups.table import TOOLS

ROOT = Path(__file__).parents[2]
OPTIONS = ROOT / "library" / "options"
# what writes, compares or examines all options, whatever they are, and what gives the dataset config its defaults
TABLES = {
    "library/doctor/command.py",
    "library/training/logs/journal.py",
    "library/training/planning/inputs.py",
    "library/training/saving/manifest.py",
    "library/training/saving/ss_metadata.py",
    "library/training/states/resume.py",
}
FIELDS = {name for spec in (*SCRIPTS, *TOOLS) for option in options_of(spec) for name in option.names}
HOLDERS = {"values", "options", "given", "table", "defaults"}  # how such a dictionary has been called


def sources() -> list[Path]:
    """Every file outside library/options that users run or import."""
    rooms = [path for room in ("library", "networks", "finetune", "tools") for path in (ROOT / room).rglob("*.py")]
    return sorted(path for path in (*rooms, *ROOT.glob("*.py")) if OPTIONS not in path.parents)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> set[str]:
    """What the file takes from `library.options.declare`."""
    froms = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "library.options.declare")
    return {alias.name for node in froms for alias in node.names}


def keys_read(tree: ast.AST) -> Iterator[str]:
    """`x["key"]` and `x.get("key")` where x has the name of a dictionary of options and the key is an option's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            holder, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
            holder, key = node.func.value, node.args[0]
        else:
            continue
        called = ast.unparse(holder).rpartition(".")[2]
        if (called in HOLDERS or called.endswith("_table(options)")) and isinstance(key, ast.Constant) and key.value in FIELDS:
            yield f"{ast.unparse(node)} in line {node.lineno}"


def test_no_option_is_read_by_a_name_in_quotes() -> None:
    found = {name_of(path): lines for path in sources() if (lines := list(keys_read(ast.parse(path.read_text(encoding="utf-8")))))}
    assert found == {}


def test_only_what_treats_all_options_alike_has_them_as_a_table() -> None:
    tables = {"options_table", "section_table"}
    assert {name_of(path) for path in sources() if imported(ast.parse(path.read_text(encoding="utf-8"))) & tables} == TABLES


@pytest.mark.parametrize(
    "line", ['values["seed"]', 'values.get("seed")', 'self.options["seed"]', 'found.values["seed"]', 'options_table(options)["seed"]']
)
def test_such_a_read_is_seen(line: str) -> None:
    assert len(list(keys_read(ast.parse(line)))) == 1


def test_a_key_of_something_else_is_not_taken_for_one() -> None:
    assert not list(keys_read(ast.parse('manifest["seed"]; values["mean"]; values[name]')))
