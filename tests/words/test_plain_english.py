"""Messages, help, reports, pages, docstrings and comments use none of the turns that a native reader stumbles over."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.words.turns import TURNS

ROOT = Path(__file__).parents[2]
FOLDERS = ("library", "networks", "finetune", "tools")
NOT_READ = {"library/methods/templates.py"}  # captions that are trained on: other words would be other results
SAID_BY_MODELS = {"a picture of"}  # BLIP begins its captions so
SOURCES = [
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")) if path.relative_to(ROOT).as_posix() not in NOT_READ),
    *sorted(ROOT.glob("*.py")),
]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "small_model" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def _messages(source: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of every text of more than one word in the code that is no docstring."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
            continue
        if " " in node.value and node.value not in SAID_BY_MODELS:
            yield f"{source.relative_to(ROOT)}:{node.lineno}", node.value


def _remarks(source: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of every line of a docstring and of every comment."""
    text, name = source.read_text(encoding="utf-8"), source.relative_to(ROOT)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield f"{name}:{token.start[0]}", token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for number, line in enumerate(node.value.value.splitlines(), node.lineno):
                yield f"{name}:{number}", line


def _prose(page: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of every line of a page outside its blocks of code, without what is between backticks and where links lead."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and not line.startswith("    "):
            yield f"{page.relative_to(ROOT)}:{number}", re.sub(r"`[^`]*`|\]\([^)]*\)", " ", line)


@cache
def messages() -> list[tuple[str, str]]:
    """Those of all sources, read once."""
    return [line for source in SOURCES for line in _messages(source)]


@cache
def remarks() -> list[tuple[str, str]]:
    """Those of all sources, read once."""
    return [line for source in SOURCES for line in _remarks(source)]


@cache
def prose() -> list[tuple[str, str]]:
    """That of all pages, read once."""
    return [line for page in PAGES for line in _prose(page)]


def found(texts: list[tuple[str, str]], pattern: str) -> list[str]:
    turn = re.compile(pattern, re.IGNORECASE)
    return [f"{place}: {text.strip()[:100]}" for place, text in texts if turn.search(text)]


@pytest.mark.parametrize(("pattern", "instead"), TURNS, ids=[pattern for pattern, _ in TURNS])
def test_messages_and_help_do_without(pattern: str, instead: str) -> None:
    assert found(messages(), pattern) == [], f"write: {instead}"


@pytest.mark.parametrize(("pattern", "instead"), TURNS, ids=[pattern for pattern, _ in TURNS])
def test_pages_do_without(pattern: str, instead: str) -> None:
    assert found(prose(), pattern) == [], f"write: {instead}"


@pytest.mark.parametrize(("pattern", "instead"), TURNS, ids=[pattern for pattern, _ in TURNS])
def test_docstrings_and_comments_do_without(pattern: str, instead: str) -> None:
    assert found(remarks(), pattern) == [], f"write: {instead}"


def test_there_are_enough_of_them() -> None:
    assert len(TURNS) >= 60
