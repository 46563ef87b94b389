"""Texts become whole numbers in library/parsing: elsewhere 5,000 digits are a traceback."""

from __future__ import annotations

import ast

import pytest

from tests.contracts.test_layers import ROOT, source_files

ASKS = {"isdecimal", "isdigit", "isnumeric"}
# what only asks, or knows how many digits there are
ALLOWED = {
    "library/data/config/keys.py", "library/data/scan/folder_findings.py", "library/doctor/torch_build.py", "library/lora/expected_size.py",
    "library/options/reading/values.py", "library/options/suggest.py", "library/words.py", "library/generation/comparing/columns.py",
}  # fmt: skip


def asked(code: str) -> list[int]:
    """Lines in which a text is asked whether it is a number."""
    calls = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [node.lineno for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr in ASKS]


def test_whole_numbers_are_read_in_one_place() -> None:
    found = {path.relative_to(ROOT).as_posix(): asked(path.read_text(encoding="utf-8")) for path in source_files()}
    faults = [name for name, lines in found.items() if lines and name not in ALLOWED and not name.startswith("library/parsing/")]
    assert not faults, f"use library.parsing.whole: {faults}"
    assert all(found[name] for name in ALLOWED), "no longer needed"


@pytest.mark.parametrize("code", ["int(a) if a.isdecimal() else 0", "all(x.isdigit() for x in y)"])
def test_a_number_read_elsewhere_is_found(code: str) -> None:
    assert asked(code)
