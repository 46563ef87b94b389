"""What acts in a run is built once and whole: few arguments, no second phase, no attribute that comes into being later."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAINING = ROOT / "library" / "training"
MOST_ARGUMENTS = 5
PLAIN = {"self", "cls", "int", "float", "str", "bool", "None", "Path", "Iterable", "Sequence", "torch", "device"}
MANY_PARTS = {  # what is made of so many parts that a settings object would only be another list of them
    "library/model/bundle.py:StableDiffusion": "the networks of a model and how it is used",
    "library/training/planning/inputs.py:Inputs": "what planning found, handed on",
    "library/training/run_context.py:RunStart": "what is settled before the model is loaded",
    "library/lora/settings.py:LoRASettings": "what --network_args say",
    "library/lora/network.py:LoRANetwork": "built by new_network and network_from_weights alone",
    "library/training/validation/validation_plan.py:ValidationPlan": "the options of validation",
    "library/training/logs/wandb_log.py:WandbLog": "the arguments of wandb.init",
    "networks/dylora.py:DyLoRALayer": "a LoRALayer with its unit",
}


def classes(*places: Path) -> Iterator[tuple[str, ast.ClassDef]]:
    """(file:Class, its syntax tree) of all classes in these folders; of library/training when none is named."""
    for path in places or (TRAINING,):
        for file in sorted(path.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield f"{file.relative_to(ROOT).as_posix()}:{node.name}", node


def methods(kind: ast.ClassDef) -> list[ast.FunctionDef]:
    return [node for node in kind.body if isinstance(node, ast.FunctionDef)]


def decorators(node: ast.ClassDef | ast.FunctionDef) -> set[str]:
    return {ast.unparse(decorator) for decorator in node.decorator_list}


def fields(kind: ast.ClassDef) -> list[str]:
    """The names that the class body declares with a type, but those that building one does not take."""
    found = [node for node in kind.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return [node.target.id for node in found if not (node.value and "init=False" in ast.unparse(node.value))]


def only_tells(method: ast.FunctionDef) -> bool:
    """Whether a method of a frozen dataclass tells what it holds: a property, another way to make one, or a question with plain figures."""
    asked = {
        one.id
        for argument in method.args.args[1:]
        if argument.annotation
        for one in ast.walk(argument.annotation)
        if isinstance(one, ast.Name)
    }
    return bool(decorators(method) & {"property", "classmethod", "functools.cached_property"}) or asked <= PLAIN


def is_value(kind: ast.ClassDef) -> bool:
    """A dataclass that only holds: without methods, or frozen and with none but those that tell of it."""
    texts = decorators(kind)
    if not any("dataclass" in text for text in texts):
        return False
    frozen = any("frozen=True" in text for text in texts)
    return not methods(kind) or (frozen and all(map(only_tells, methods(kind))))


def constructor(kind: ast.ClassDef) -> list[str]:
    """The arguments that building one takes; none for protocols, which nobody builds."""
    if any("Protocol" in ast.unparse(base) for base in kind.bases):
        return []
    if any("dataclass" in text for text in decorators(kind)):
        return fields(kind)
    for method in methods(kind):
        if method.name == "__init__":
            arguments = method.args
            return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)][1:]
    return []


def born_late(kind: ast.ClassDef) -> set[str]:
    """Attributes that a method assigns on `self` and that neither `__init__` nor the class body knows."""
    assigned: dict[str, set[str]] = {method.name: set() for method in methods(kind)}
    for method in methods(kind):
        for node in ast.walk(method):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
                assigned[method.name].add(node.attr)
    known = assigned.pop("__init__", set()) | set(fields(kind))
    setters = {method.name for method in methods(kind) if any(text.endswith(".setter") for text in decorators(method))}
    return set().union(*assigned.values()) - known - setters


def phases(kind: ast.ClassDef) -> list[str]:
    return [method.name for method in methods(kind) if method.name == "attach"]


def test_what_acts_in_a_run_takes_few_arguments() -> None:
    every = classes(ROOT / "library", ROOT / "networks")
    many = {name: found for name, kind in every if not is_value(kind) and len(found := constructor(kind)) > MOST_ARGUMENTS}
    assert many.keys() == MANY_PARTS.keys()


def test_nothing_in_training_has_a_second_phase() -> None:
    """`Method.attach`, which puts a method into the model, lives in library/method.py and library/methods."""
    assert not {name: found for name, kind in classes() if (found := phases(kind))}


def test_no_attribute_is_born_after_the_object() -> None:
    assert not {name: found for name, kind in classes() if (found := born_late(kind))}


@pytest.mark.parametrize(
    ("code", "faults"),
    [
        ("class A:\n def __init__(self, a, b, c, d, e): ...", (5, set(), [])),
        ("class A:\n def __init__(self, a, b, c, *, d, e, f=1): ...", (6, set(), [])),
        ("@dataclass\nclass A:\n a: int\n b: int = 0\n def f(self): self.c = self.a", (2, {"c"}, [])),
        (
            "class A:\n def __init__(self): self.a, self.b = 1, 2\n def attach(self): self.a = 3\n def f(self): self.x: int = 1",
            (0, {"x"}, ["attach"]),
        ),
        ("class A(Protocol):\n a: int\n def f(self, b): ...", (0, set(), [])),
    ],
)
def test_the_walk_finds_what_it_is_for(code: str, faults: tuple[int, set[str], list[str]]) -> None:
    (kind,) = ast.parse(code).body
    assert isinstance(kind, ast.ClassDef)
    assert (len(constructor(kind)), born_late(kind), phases(kind)) == faults


def test_a_frozen_dataclass_that_acts_is_no_mere_value() -> None:
    text = "@dataclass(frozen=True)\nclass A:\n a: int\n"
    plain, acting = ast.parse(text).body[0], ast.parse(text + " def f(self, b: Callable[[], int]): ...").body[0]
    assert isinstance(plain, ast.ClassDef) and isinstance(acting, ast.ClassDef)
    assert is_value(plain) and not is_value(acting)
