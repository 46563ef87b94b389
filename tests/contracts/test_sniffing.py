"""Nobody asks for the name of a class or a module to know what a thing can do: the thing answers, or one table does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.contracts.test_layers import ROOT, source_files

NAMES = {"__name__", "__qualname__", "__module__"}
TABLES = {
    "library/lora/layers.py": "the classes of Diffusers and CLIP that every program's LoRA patches, none of which this room loads",
    "library/packages.py": "the packages of network modules, before any is imported",
    "library/training/optim/optimizer_table.py": "the optimizers by class",
    "library/training/states/follow.py": "a state keeps the class of its schedule by name",
    "library/training/caches/text_cache.py": "hooks that transformers hangs in by itself",
    "library/telling/broken_torch.py": "the module whose import failed, in a traceback: a frame answers no question but this",
}


def _asks_for_a_name(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr in NAMES for one in ast.walk(node)) or any(
        isinstance(one, ast.Constant) and one.value in NAMES for one in ast.walk(node)
    )


def _names_a_package(node: ast.AST) -> bool:
    """A text that begins as the modules of this suite's networks or of LyCORIS do, and is no path and no sentence."""
    texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return any(text.partition(".")[0] in ("networks", "lycoris") and not set(text) & set("/ ") for text in texts)


def sniffs(tree: ast.AST) -> Iterator[int]:
    """The lines that compare such a name with a text, or look for one in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides):
                continue  # if __name__ == "__main__"
            asks = any(map(_asks_for_a_name, sides)) or any(map(_names_a_package, sides))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("startswith", "endswith"):
            asks = _asks_for_a_name(node.func.value) or any(map(_names_a_package, node.args))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            asks = isinstance(node.func.value, ast.Dict) and any(_names_a_package(key) for key in node.func.value.keys if key is not None)
        else:
            continue
        if asks:
            yield node.lineno


def test_no_other_file_knows_things_by_the_name_of_their_class_or_module() -> None:
    found = {path.relative_to(ROOT).as_posix(): list(sniffs(ast.parse(path.read_text("utf-8")))) for path in source_files()}
    assert not {name: lines for name, lines in found.items() if lines and name not in TABLES}


@pytest.mark.parametrize(
    "code",
    [
        'type(fault).__name__ == "RemoteEntryNotFoundError"',
        '"XTI" in type(options).__name__',
        'type(fault).__module__.partition(".")[0] in ("httpx",)',
        'module.startswith("networks.")',
        'name.startswith("networks")',
        'given.network_module == "networks.lora"',
        '{"lycoris": "lycoris-lora"}.get(name)',
        'getattr(kind, "__module__", "").startswith("transformers.")',
    ],
)
def test_a_look_at_a_name_is_found(code: str) -> None:
    assert list(sniffs(ast.parse(code)))


@pytest.mark.parametrize("code", ['if __name__ == "__main__": ...', 'f"{kind.__module__}.{kind.__name__}"', 'remedy = "use networks.lora"'])
def test_telling_a_name_is_no_look_at_it(code: str) -> None:
    assert not list(sniffs(ast.parse(code)))
