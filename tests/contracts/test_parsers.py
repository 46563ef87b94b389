"""Texts are parsed in one room, library/parsing: elsewhere deep nesting is a RecursionError, and a long number Python's own advice."""

from __future__ import annotations

import ast

import pytest

from tests.contracts.test_layers import ROOT, source_files

ROOM = ROOT / "library" / "parsing"
PARSERS = {"json": {"load", "loads", "JSONDecoder"}, "toml": {"load", "loads"}, "ast": {"literal_eval"}}
PACKAGES = {"tomllib", "tomli", "yaml", "orjson", "ujson", "simplejson"}


def faults_of(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, name) of every parser that is used, or imported under a name of its own."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in PARSERS.get(node.value.id, ()):
            found.append((node.lineno, f"{node.value.id}.{node.attr}"))
        elif isinstance(node, ast.ImportFrom) and node.module in {*PARSERS, *PACKAGES}:
            names = [alias.name for alias in node.names]
            found += [(node.lineno, f"{node.module}.{name}") for name in names if node.module in PACKAGES or name in PARSERS[node.module]]
        elif isinstance(node, ast.Import):
            found += [
                (node.lineno, alias.name) for alias in node.names if alias.name in PACKAGES or (alias.name in PARSERS and alias.asname)
            ]
    return found


def test_texts_are_parsed_in_one_room() -> None:
    faults = []
    for path in source_files():
        if path.parent != ROOM:
            found = faults_of(ast.parse(path.read_text(encoding="utf-8")))
            faults += [f"{path.relative_to(ROOT)}:{line} {name}: use library.parsing" for line, name in found]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "code",
    [
        "json.loads(text)",
        "json.load(file)",
        "from json import loads",
        "import json as j",
        "toml.loads(t)",
        "import tomllib",
        "ast.literal_eval(t)",
    ],
)
def test_a_parser_elsewhere_is_found(code: str) -> None:
    assert faults_of(ast.parse(code))


@pytest.mark.parametrize("code", ["json.dumps(tree)", "from json import dumps", "parse_json(text)", "ast.parse(text)", "torch.load(path)"])
def test_what_writes_is_not(code: str) -> None:
    assert not faults_of(ast.parse(code))
