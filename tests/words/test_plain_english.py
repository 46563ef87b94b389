"""Messages, help, reports and pages use none of the turns that a native reader stumbles over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.words.turns import TURNS

ROOT = Path(__file__).parents[2]
SOURCES = [
    *(path for folder in ("library", "networks", "finetune", "tools") for path in sorted((ROOT / folder).rglob("*.py"))),
    *sorted(ROOT.glob("*.py")),
]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "small_model" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def messages(source: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of every text of more than one word in the code that is no docstring."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings and " " in node.value:
            yield f"{source.relative_to(ROOT)}:{node.lineno}", node.value


def prose(page: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of every line of a page outside its blocks of code, what is between backticks and where links lead left out."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and not line.startswith("    "):
            yield f"{page.relative_to(ROOT)}:{number}", re.sub(r"`[^`]*`|\]\([^)]*\)", " ", line)


def found(texts: Iterator[tuple[str, str]], pattern: str) -> list[str]:
    turn = re.compile(pattern, re.IGNORECASE)
    return [f"{place}: {text.strip()[:100]}" for place, text in texts if turn.search(text)]


@pytest.mark.parametrize(("pattern", "instead"), TURNS, ids=[pattern for pattern, _ in TURNS])
def test_messages_and_help_do_without(pattern: str, instead: str) -> None:
    assert [line for source in SOURCES for line in found(messages(source), pattern)] == [], f"write: {instead}"


@pytest.mark.parametrize(("pattern", "instead"), TURNS, ids=[pattern for pattern, _ in TURNS])
def test_pages_do_without(pattern: str, instead: str) -> None:
    assert [line for page in PAGES for line in found(prose(page), pattern)] == [], f"write: {instead}"


def test_there_are_enough_of_them() -> None:
    assert len(TURNS) >= 60
