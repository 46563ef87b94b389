"""Only `library.model.family` tells families of models apart by name; all else asks the family."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.contracts.test_layers import module_of, source_files

NAMES = {"v1", "v2", "sd_v1", "sd_v2", "sd_v2_v"}
HOME = "library.model.family"


def comparisons_by_name(tree: ast.AST) -> Iterator[int]:
    """The lines that compare with a family's name, or look something up by it in a table of their own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            sides = [key for key in node.keys if key is not None]
        else:
            continue
        if any(isinstance(side, ast.Constant) and side.value in NAMES for side in sides):
            yield node.lineno


def test_no_other_file_tells_families_apart_by_name() -> None:
    files = {module_of(path): path for path in source_files()}
    found = {name: list(comparisons_by_name(ast.parse(path.read_text("utf-8")))) for name, path in files.items() if name != HOME}
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("code", ['x = 768 if version == "v1" else 1024', 'WIDTHS = {"v1": 768, "v2": 1024}[version]', '"sd_v2" != name'])
def test_a_comparison_is_found(code: str) -> None:
    assert list(comparisons_by_name(ast.parse(code)))


def single_encoders(tree: ast.AST) -> Iterator[int]:
    """The lines that take one of `text_encoders` by its number."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            name = getattr(node.value, "attr", getattr(node.value, "id", ""))
            if name == "text_encoders":
                yield node.lineno


def test_no_other_file_knows_how_many_text_encoders_there_are() -> None:
    files = {module_of(path): path for path in source_files()}
    found = {name: list(single_encoders(ast.parse(path.read_text("utf-8")))) for name, path in files.items() if name != HOME}
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("code", ["family.text_encoders[0].width", "text_encoders[1]"])
def test_taking_one_text_encoder_is_found(code: str) -> None:
    assert list(single_encoders(ast.parse(code)))
