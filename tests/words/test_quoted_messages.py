"""docs/troubleshooting.md quotes messages as they are: somebody searches the page for the words on the screen."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPEN = "\0"  # what is filled in when the message is made
NOT_PASSED = "The following values were not passed to accelerate launch"  # accelerate's, like the first two below
NO_MESSAGES = {"CalledProcessError", "returned non-zero exit status", NOT_PASSED, "…-state"}  # the last one is a folder


@cache
def messages() -> str:
    """Every text in the code, with OPEN for what an f-string fills in."""
    paths = [path for folder in ("library", "networks", "finetune", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(text for path in paths for text in texts(ast.parse(path.read_text(encoding="utf-8"))))


def texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else OPEN for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def quoted() -> list[str]:
    """What is code in the first column of the tables of what you see."""
    found, inside = [], False
    for line in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines():
        inside = line.startswith("| What you see |") or (inside and line.startswith("|"))
        found += re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[1]) if inside else []
    return [one for one in found if one not in NO_MESSAGES]


def test_the_tables_are_found() -> None:
    assert len(quoted()) > 20


@pytest.mark.parametrize("message", quoted())
def test_the_message_is_in_the_code(message: str) -> None:
    written = re.sub(r"'[^']*'|--[\w-]+|…", OPEN, message)
    assert written in messages(), f"docs/troubleshooting.md quotes `{message}`, which no message says; quote the message"
