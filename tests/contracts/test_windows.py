"""What the code may not say because it goes wrong on Windows: text without an encoding, names that only POSIX systems have, no guard.

Read from the syntax trees, so that it holds for lines that no test runs.
"""

import ast
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.test_layers import ROOT, source_files
from tests.windows_site.sitecustomize import POSIX_MODULES, POSIX_NAMES

MODULES = {module.__name__: set(names.split()) for module, names in POSIX_NAMES.items()}
# method or function -> place of its argument `encoding`, if it may stand without a name
TEXT = {"open": None, "read_text": 0, "write_text": 1, "fdopen": None, "NamedTemporaryFile": None}
RUNNERS = {"run", "Popen", "check_output", "check_call", "call"}


def ours() -> list[Path]:
    """All that is run on a user's machine, examples and benchmarks too."""
    return [*source_files(), *sorted((ROOT / "examples").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]


def without_encoding(tree: ast.AST) -> Iterator[int]:
    """Lines that read or write text in whatever encoding the system has."""
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        owner = getattr(getattr(node.func, "value", None), "id", None)
        words = {word.arg: word.value for word in node.keywords}
        if "encoding" in words or None in words:
            continue
        if name in RUNNERS and owner == "subprocess":
            if {"text", "universal_newlines"} & words.keys():
                yield node.lineno
        elif name in TEXT and owner not in ("Image", "os", "webbrowser", "zipfile", "tarfile", "wave"):
            place = TEXT[name]
            if place is not None and len(node.args) > place:
                continue
            texts = [value.value for value in (*node.args, *words.values()) if isinstance(value, ast.Constant)]
            is_mode = [text for text in texts if isinstance(text, str) and text and set(text) <= set("rwxab+t")]
            opens = name in ("read_text", "write_text") or isinstance(node.func, ast.Name) or bool(is_mode) or not node.args
            if opens and not any("b" in mode for mode in is_mode) and not _other_open(node):
                yield node.lineno


def _other_open(node: ast.Call) -> bool:
    """An `open` of another kind than a file's: of a zip archive's member, of this suite's classes."""
    return isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("self", "cls", "archive", "_Answers")


def posix_only(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What Windows has not: modules, and names of `os` and `signal`. A guard is `getattr` or `hasattr` with the name as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in POSIX_MODULES)
        elif isinstance(node, ast.ImportFrom):
            gone = {node.module} & set(POSIX_MODULES) or {alias.name for alias in node.names} & MODULES.get(node.module or "", set())
            yield from ((node.lineno, name) for name in gone)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in MODULES.get(node.value.id, ()):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def test_text_is_read_and_written_in_an_encoding_that_is_said() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path in ours() for line in without_encoding(ast.parse(path.read_text("utf-8")))]
    assert not found


@pytest.mark.parametrize(
    "code",
    ["open(x)", "open(x, 'w')", "p.open()", "p.open('a', newline='')", "p.read_text()", "p.write_text(t)", "io.open(x, 'r')",
     "subprocess.run(c, text=True)", "p.read_text(errors='replace')"],
)  # fmt: skip
def test_the_walk_finds_text_without_an_encoding(code: str) -> None:
    assert list(without_encoding(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["open(x, 'rb')", "open(x, encoding='utf-8')", "p.open('r', encoding='utf-8')", "p.read_text('utf-8')", "p.write_text(t, 'utf-8')",
     "Image.open(x)", "subprocess.run(c, text=True, encoding='utf-8')", "p.open('r+b')", "archive.open(name)", "subprocess.run(c)"],
)  # fmt: skip
def test_and_nothing_else(code: str) -> None:
    assert not list(without_encoding(ast.parse(code)))


def test_nothing_is_named_that_only_posix_systems_have() -> None:
    for path in (path for path in ours() if "benchmarks" not in path.parts):  # those are taken on Linux
        assert not list(posix_only(ast.parse(path.read_text("utf-8")))), path
    for code in ("import fcntl", "from os import fork", "os.getuid()", "signal.SIGKILL", "from resource import getrusage"):
        assert list(posix_only(ast.parse(code))), code


def test_every_script_has_the_guard_that_fresh_processes_need() -> None:
    """On Windows each loader worker imports the script anew; without the guard it would run it."""
    for path in [*ROOT.glob("*.py"), *(path for room in ("finetune", "tools", "networks") for path in (ROOT / room).glob("*.py"))]:
        text = path.read_text("utf-8")
        top = ast.parse(text).body
        starts = [node for node in top if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
        if "run_script" in text:
            guard = top[-1]
            assert isinstance(guard, ast.If) and ast.unparse(guard.test) == "__name__ == '__main__'", path.name
        calls = [ast.unparse(node) for node in starts]
        assert not [call for call in calls if "run_script" in call or "main(" in call] or path.name == "setup.py", path.name


def test_an_output_that_knows_few_letters_prints_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `console.setup` has `install` do for every script, on the three consoles that users of the suite have."""
    from library.telling import streams

    for codec in ("cp949", "cp932", "cp1252", "ascii"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=codec, errors="strict")
        monkeypatch.setattr(sys, "stdout", stream)
        streams.install()
        print("고양이 ねこ žluť 🐈 \udcff", flush=True)
        assert raw.getvalue().decode(codec).rstrip("\n").count("\\") >= 1
