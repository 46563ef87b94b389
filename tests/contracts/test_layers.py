"""The house stands: imports point down only, cheap rooms stay free of torch, files stay small.

The levels are those of docs/architecture.md. A function-level import counts like one at the top of a file.
"""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "bitsandbytes", "xformers")
SCRIPTS = ("train_network", "train_db", "fine_tune", "train_textual_inversion", "train_textual_inversion_XTI", "gen_img")
OURS = ("library", "networks", "finetune", "tools", "benchmarks", "examples", "tests", *SCRIPTS)
DATA_WITH_TORCH = {"pixels", "loading"}  # rooms of library/data; the others answer without it
NETWORK_TOOLS = {
    "merge_lora",
    "svd_merge_lora",
    "resize_lora",
    "extract_lora_from_models",
    "extract_lora_from_dylora",
    "check_lora_weights",
}
LONGEST = 300  # lines
MOST_FILES = 14  # Python files in a folder

# (modules, level, rooms of its own level or below that it may still not import)
ROOMS = (
    ("library.data", 1, ("library.diffusion", "library.model", "library.lora", "networks")),
    ("library.diffusion", 1, ("library.data", "library.model", "library.lora", "networks")),
    ("library.model", 1, ("library.data", "library.diffusion", "library.lora", "networks")),
    ("library.lora", 1, ("library.data", "library.diffusion", "library.model", "networks")),
    ("library.method", 2, ("library.data", "library.diffusion", "library.lora", "networks")),  # the protocol, about a model
    ("library.surgery", 2, ("library.data", "library.diffusion", "networks")),  # works on models and networks together
    ("library.doctor", 2, ("library.training", "library.model", "library.diffusion", "networks")),
    ("library.methods", 3, ()),
    ("library.preparation", 3, ("library.training", "networks")),
    ("library.training", 4, ("library.methods",)),
    ("library.generation", 5, ()),
    ("library", 0, ()),
)


def source_files() -> list[Path]:
    """Every Python file that users run or import; tests, benchmarks and examples stand on top and may import anything."""
    rooms = [path for room in ("library", "networks", "finetune", "tools") for path in (ROOT / room).rglob("*.py")]
    return sorted(rooms) + sorted(ROOT.glob("*.py"))


def module_of(path: Path) -> str:
    """The dotted name under which the file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> tuple[str, int, tuple[str, ...]]:
    """The room a module belongs to, its level, and what it may not import besides all that is above it."""
    for row in ROOMS:
        if module == row[0] or module.startswith(row[0] + "."):
            return row
    if module.split(".")[0] == "networks" and module.split(".")[-1] not in NETWORK_TOOLS:
        return "networks", 2, ("library.data", "library.diffusion", "library.model")
    return module, 6, ()  # scripts and tools; each stands alone


def imports_of(tree: ast.AST, at_run_time: bool = False) -> list[tuple[int, str]]:
    """(line, module) of every import in the file, wherever it stands; `from a.b import c` gives both a.b and a.b.c.

    `at_run_time` leaves out what stands under `if TYPE_CHECKING:`.
    """
    found = []
    unread = {id(child) for node in ast.walk(tree) if at_run_time and is_for_types(node) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write it in full"
            found += [(node.lineno, node.module)] + [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def is_for_types(node: ast.AST) -> bool:
    """Whether it is an `if TYPE_CHECKING:`, whose imports are read by type checkers only."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def is_module(name: str) -> bool:
    """Whether a dotted name is a file or folder of ours (and not a class or function in one)."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def faults_of(module: str, tree: ast.AST) -> list[str]:
    """The imports of a module that do not point down."""
    room, level, strangers = room_of(module)
    faults = []
    for line, target in imports_of(tree):
        if target.split(".")[0] not in OURS or not is_module(target) or target in ("library", "library.training"):
            continue
        above, target_level, _ = room_of(target)
        same_room = above == room
        if target.split(".")[0] in ("tests", "benchmarks", "examples"):
            faults.append(f"{module}:{line} imports {target}: only tests do that")
        elif not same_room and (target_level > level or (target_level == level and level > 0)):
            faults.append(f"{module}:{line} imports {target}: level {level} must not know level {target_level}")
        elif any(target == stranger or target.startswith(stranger + ".") for stranger in strangers):
            faults.append(f"{module}:{line} imports {target}: these rooms do not know each other")
    return faults


def test_imports_point_down_only() -> None:
    faults = []
    for path in source_files():
        faults += faults_of(module_of(path), ast.parse(path.read_text(encoding="utf-8"), str(path)))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("library.data.batching.buckets", "from library.model import load"),
        ("library.data.batching.buckets", "def f():\n    import library.diffusion.noise"),
        ("library.options.rules.check", "import library.data.config.blueprint"),
        ("library.training.step.loop", "from library.methods import network"),
        ("library.preparation.merge", "from library.methods import network"),
        ("library.data.scan.records", "from library.preparation.merge import merge"),
        ("library.methods.network", "from library.training.step.loop import run"),
        ("library.training.samples.samples", "from library.generation.plan import planned"),
        ("library.pictures.prompt_files", "import library.model.bundle"),
        ("library.method", "import library.methods"),
        ("library.lora.layers", "import networks.lora"),
        ("library.surgery.merge_model", "import networks.lora"),
        ("networks.lora", "import library.model.bundle"),
        ("library.files", "import train_network"),
        ("library.model.load", "from tests import small_models"),
    ],
)
def test_the_walk_finds_an_import_that_points_up_or_sideways(module: str, code: str, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "is_module", lambda name: True)
    assert faults_of(module, ast.parse(code))


def torch_free() -> list[Path]:
    """The files that answer in a fraction of a second: level 0, what data knows without pixels, what methods say of their size."""
    data = [path for path in (ROOT / "library" / "data").rglob("*.py") if path.parent.name not in DATA_WITH_TORCH]
    expected = [ROOT / "library" / "methods" / "expected_weights.py", ROOT / "library" / "lora" / "expected_size.py"]
    return sorted(
        [
            *expected,
            *(ROOT / "library").glob("*.py"),
            *(ROOT / "library" / "options").rglob("*.py"),
            *(ROOT / "library" / "paths").glob("*.py"),
            *(ROOT / "library" / "telling").glob("*.py"),
            *data,
        ]
    )


def test_cheap_rooms_name_no_heavy_package_anywhere() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in torch_free()
        for line, name in imports_of(ast.parse(path.read_text(encoding="utf-8")), at_run_time=True)
        if name.split(".")[0] in HEAVY
    ]
    assert not faults, "\n".join(dict.fromkeys(faults))


def test_importing_the_cheap_rooms_loads_no_heavy_package() -> None:
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [package for package in {HEAVY} if package in sys.modules]\n"
        "    if heavy: sys.exit(f'{name} loads {heavy}')\n"
    )
    names = [module_of(path) for path in torch_free()]
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_file_is_longer_than_one_subject_needs() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in source_files() if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST}
    assert not long


def test_no_folder_is_a_hall() -> None:
    rooms = Counter(path.parent for path in source_files() if path.is_relative_to(ROOT / "library"))
    assert not {str(room.relative_to(ROOT)): files for room, files in rooms.items() if files > MOST_FILES}


def test_package_files_hold_one_sentence() -> None:
    for path in source_files():
        if path.name == "__init__.py":
            (sentence,) = ast.parse(path.read_text("utf-8")).body
            assert isinstance(sentence, ast.Expr) and ast.get_docstring(ast.Module([sentence], [])).count("\n") == 0, path


def test_every_file_says_what_it_is_for() -> None:
    silent = [str(path.relative_to(ROOT)) for path in source_files() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert not silent


def test_no_import_leads_back_to_its_own_file() -> None:
    assert circles(imports_between_files()) == []


def imports_between_files() -> dict[str, set[str]]:
    """Module → the modules of ours that it imports, wherever the import stands."""
    files = {module_of(path): path for path in source_files() if path.name != "__init__.py"}
    targets = {module: {name for _, name in imports_of(ast.parse(path.read_text("utf-8")))} for module, path in files.items()}
    return {module: names & files.keys() for module, names in targets.items()}


def circles(imports: dict[str, set[str]]) -> list[str]:
    """The modules from which imports lead back to themselves."""
    reach = {module: set(targets) for module, targets in imports.items()}
    while True:
        grown = {module: targets.union(*(reach.get(target, set()) for target in targets)) for module, targets in reach.items()}
        if grown == reach:
            return sorted(module for module, targets in reach.items() if module in targets)
        reach = grown


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_no_file_has_a_name_that_says_nothing() -> None:
    words = {"util", "utils", "helper", "helpers", "manager", "common", "misc"}
    assert not [path for path in source_files() if words & set(path.stem.split("_"))]
