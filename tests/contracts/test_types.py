"""What type checkers cannot see: how much of the library is annotated with `Any`, which says nothing, and why a check is left out."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = 0.01  # of the annotated parameters of a room
ROOMS = (
    "containers",
    "data",
    "diffusion",
    "doctor",
    "lora",
    "methods",
    "model",
    "options",
    "preparation",
    "surgery",
    "training",
)  # of library/; the files beside them are "the ground floor"


def parameters_of(tree: ast.AST) -> Iterator[ast.expr]:
    """The annotations of all parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            yield from (one.annotation for one in every if one is not None and one.annotation is not None)


def is_bare(annotation: ast.expr) -> bool:
    """Whether it is `Any`, or a union with it."""
    if isinstance(annotation, ast.BinOp):
        return is_bare(annotation.left) or is_bare(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def share_of(files: list[Path]) -> tuple[int, int]:
    """(bare, all) parameters of the files."""
    annotations = [one for file in files for one in parameters_of(ast.parse(file.read_text(encoding="utf-8")))]
    return sum(map(is_bare, annotations)), len(annotations)


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_a_room_says_what_it_takes(room: str) -> None:
    folder = ROOT / "library" / room
    bare, every = share_of(sorted(folder.rglob("*.py") if room else folder.glob("*.py")))
    assert every > 20 and bare / every < MOST, f"library/{room}: {bare} of {every} parameters are Any"


@pytest.mark.parametrize(
    ("code", "share"),
    [
        ("def f(a: Any, *b: int, c: str | Any): ...", (2, 3)),
        ("def f(self, a: dict[str, Any], **b: Any): ...", (1, 2)),
    ],
)
def test_bare_parameters_are_counted(code: str, share: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(code)
    assert share_of([file]) == share


def unexplained(text: str) -> list[str]:
    """The lines on which a type checker is told to look away, without the code of the error or the reason behind it."""
    comments = [one for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type == tokenize.COMMENT]
    return [
        f"{one.start[0]}: {one.string}"
        for one in comments
        if re.search(r"#\s*type:\s*ignore", one.string) and not re.match(r"# type: ignore\[[a-z,-]+\]  # \S.{9}", one.string)
    ]


def test_where_the_checker_looks_away_a_code_and_a_reason_are_given() -> None:
    files = [file for room in ("library", "networks", "finetune", "tools") for file in sorted((ROOT / room).rglob("*.py"))]
    files += sorted(ROOT.glob("*.py"))
    found = {file.relative_to(ROOT).as_posix(): unexplained(file.read_text(encoding="utf-8")) for file in files}
    assert not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize(
    ("comment", "is_found"),
    [
        ("# type: ignore", True),
        ("# type: ignore  # torch has no types for it", True),
        ("# type: ignore[arg-type]", True),
        ("# type:ignore[arg-type]  # checked above, as it must be", True),
        ("# type: ignore[arg-type]  # ok", True),
        ("# type: ignore[arg-type,misc]  # `check` has seen to it", False),
    ],
)
def test_a_line_without_a_reason_is_found(comment: str, is_found: bool) -> None:
    assert bool(unexplained(f"x = 1  {comment}\n")) is is_found
