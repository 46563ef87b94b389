"""Every flag of the tools has a test that shows what it does: `tool_flags_shown.json` names it, tool by tool and flag by flag.

The flags are those of the specification (its stored copy lies with the tests of the command lines) and those of our own.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from library.options.declare import Tool, options_of
from library.options.tool_groups.latents import CacheModelOptions
from library.options.tool_groups.table import TOOLS

ROOT = Path(__file__).parents[2]
SHOWN: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("tool_flags_shown.json").read_text(encoding="utf-8"))
LISTED = json.loads((ROOT / "tests" / "options" / "tool_flags.json").read_text(encoding="utf-8"))
# The dataset's flags, which tools/cache_latents.py has of the training scripts, are shown with those.
OF_THE_SCRIPTS = {"tools/cache_latents.py": set(CacheModelOptions.__dataclass_fields__)}
NOT_RUN = {"slow", "gpu", "weights", "skip", "skipif"}


def flags_of(spec: type[Tool]) -> set[str]:
    """All spellings of the tool's flags, and its words by their names."""
    own = OF_THE_SCRIPTS.get(spec.name)
    options = [option for option in options_of(spec) if own is None or option.field in own]
    listed = {row.get("positional") or row["flags"][0] for row in LISTED.get(spec.name, ())}
    return {name if option.positional else f"--{name}" for option in options for name in option.names} | listed


@cache
def names_in(path: Path) -> dict[str, list[ast.AST]]:
    """What each name at the top of a file stands for: function, value or import; fixtures of the folder's conftest.py too."""
    shared = path.with_name("conftest.py")
    own = path == shared or not shared.is_file()
    found: dict[str, list[ast.AST]] = {} if own else {name: [*nodes] for name, nodes in names_in(shared).items()}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        found.setdefault(name.id, []).append(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                one = ast.ImportFrom(node.module, [alias]) if isinstance(node, ast.ImportFrom) else ast.Constant(alias.name)
                found.setdefault(alias.asname or alias.name, []).append(one)
    return found


def texts_of(path: Path, test: str) -> Iterator[str]:
    """Every text in a test, in its parameters, and in the fixtures, functions, values and imports that it reaches in its file and in
    the files of tests that this one imports from."""
    waiting: list[tuple[Path, str]] = [(path, test)]
    seen: set[tuple[Path, str]] = set()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        file, name = place
        for node in (part for whole in names_in(file).get(name, ()) for part in ast.walk(whole)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.Name):
                waiting.append((file, node.id))
            elif isinstance(node, ast.arg):
                waiting.append((file, node.arg))
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
                helper = ROOT / f"{node.module.replace('.', '/')}.py"
                if node.module.startswith("tests.") and helper.is_file():
                    waiting.extend((helper, alias.name) for alias in node.names)


def is_named(word: str, texts: list[str]) -> bool:
    return any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for text in texts)


def fault_of(tool: str, flag: str, place: str) -> str | None:
    """What is wrong with the test that is said to show a flag, None where it may."""
    file, _, test = place.partition("::")
    path = ROOT / file
    if not path.is_file() or not test.startswith("test_"):
        return f"{place} is no test"
    functions = [node for node in names_in(path).get(test, ()) if isinstance(node, ast.FunctionDef)]
    if not functions:
        return f"{file} has no {test}"
    marks = {node.attr for decorator in functions[0].decorator_list for node in ast.walk(decorator) if isinstance(node, ast.Attribute)}
    texts = list(texts_of(path, test))
    if marks & NOT_RUN and "parametrize" not in marks:
        return f"{place} does not run everywhere"
    if not is_named(Path(tool).stem, texts):
        return f"{place} does not start {tool}"
    if flag.startswith("--") and not is_named(flag, texts):
        return f"{place} does not name {flag}"
    return None


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
def test_each_flag_of_a_tool_has_a_test_that_starts_it_with_that_flag(spec: type[Tool]) -> None:
    shown = SHOWN[spec.name]
    assert set(shown) == flags_of(spec)
    assert not [fault for flag, place in shown.items() if (fault := fault_of(spec.name, flag, place))]


def test_every_tool_that_is_listed_is_there_and_none_is_left_over() -> None:
    assert set(SHOWN) == {spec.name for spec in TOOLS} >= set(LISTED)


def test_a_place_that_shows_nothing_is_found() -> None:
    file, merge = "tests/preparation/test_merge.py", "finetune/merge_captions_to_metadata.py"
    for tool, flag, test, said in (
        (merge, "--full_path", "test_captions_stand_under_the_names_without_ending", "does not name --full_path"),
        (merge, "--debug", "test_nothing", f"{file} has no test_nothing"),
        ("finetune/make_captions.py", "--debug", "test_debug_prints_each_image_with_its_text", "does not start finetune/make_captions.py"),
        ("finetune/make_captions.py", "--debug", "tags", "is no test"),
    ):
        assert said in str(fault_of(tool, flag, f"{file}::{test}"))
    good = f"{file}::test_debug_prints_each_image_with_its_text"
    assert fault_of(merge, "--debug", good) is None
