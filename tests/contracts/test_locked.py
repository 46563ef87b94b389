"""The environment is locked: what the requirement files name, what constraints.txt pins and what is installed here are one set."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / ".ci"))

import locked  # noqa: E402
import upgrade  # noqa: E402

INSTALLED_FOR_TESTS = ("requirements.txt", "requirements-test.txt", "examples/requirements.txt")


def test_every_requirement_is_pinned_and_equals_the_constraints_on_every_python_and_system() -> None:
    assert faults_of_the_files(ROOT) == []


def faults_of_the_files(root: Path) -> list[str]:
    """What is not pinned, not pinned alike in two files, or missing from constraints.txt."""
    faults = set()
    constraints = locked.read(locked.CONSTRAINTS, root)
    for machine in locked.MACHINES:
        where = f"Python {machine['python_version']}, {machine['sys_platform']}"
        pinned = locked.versions(constraints, machine)
        for file in locked.FILES:
            for name, version in locked.versions(locked.read(file, root), machine).items():
                if version is None:
                    faults.add(f"{file}: {name} is not pinned with ==")
                elif pinned.get(name) != version:
                    faults.add(f"{file}: {name}=={version}, but {locked.CONSTRAINTS} has {pinned.get(name)} ({where})")
    return sorted(faults)


def test_every_requirement_names_a_version_for_every_python() -> None:
    for file in locked.FILES:
        lines = locked.read(file)
        names = {line.name for line in lines}
        for machine in locked.MACHINES:
            assert set(locked.versions(lines, machine)) == names, (file, machine)


@pytest.mark.parametrize("file", [*locked.FILES, locked.CONSTRAINTS])
def test_a_version_changed_in_one_file_alone_is_found(file: str, tmp_path: Path) -> None:
    for name in (*locked.FILES, locked.CONSTRAINTS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    text = (tmp_path / file).read_text(encoding="utf-8")
    first = next(line for line in locked.lines_of(text) if line.name in {"scikit-image", "torch", "wandb", "pytest", "xformers"})
    changed = text.replace(f"{first.requirement.name}=={first.version}", f"{first.requirement.name}=={first.version}.1")
    assert changed != text
    (tmp_path / file).write_text(changed, encoding="utf-8")
    assert any(first.name in fault for fault in faults_of_the_files(tmp_path))


def installed(name: str) -> str | None:
    """The installed version without its local part (`+cpu`, `+cu130`)."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def test_what_is_installed_is_what_the_files_name() -> None:
    here = [line for file in INSTALLED_FOR_TESTS for line in locked.read(file) if applies_here(line.requirement)]
    assert here
    differs = {line.name: (line.version, installed(line.name)) for line in here if installed(line.name) != line.version}
    assert not differs, "run `make test`, or pip install -r requirements.txt -r requirements-test.txt -c constraints.txt"


def applies_here(requirement: Requirement, extra: str = "") -> bool:
    """Whether the requirement counts on this machine, under an extra of its package or none."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def test_what_the_requirements_draw_in_is_pinned_installed_and_without_conflict() -> None:
    """`pip check` from the installed packages' own metadata, for what a clean install holds, whatever else lies in this environment."""
    pins = {line.name: line.version for line in locked.read(locked.CONSTRAINTS) if applies_here(line.requirement)}
    waiting = [line.requirement for file in INSTALLED_FOR_TESTS for line in locked.read(file) if applies_here(line.requirement)]
    seen: set[tuple[str, str]] = set()
    faults = []
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        version = installed(name)
        if version is None and is_part_of_a_cuda_build(name):
            continue
        if pins.get(name) != version:
            faults.append(f"{name}: {locked.CONSTRAINTS} has {pins.get(name)}, installed is {version}")
        elif not wanted.specifier.contains(str(version), prereleases=True):
            faults.append(f"{wanted} does not allow {name} {version}")
        for extra in ("", *wanted.extras):
            if version is not None and (name, extra) not in seen:
                seen.add((name, extra))
                needs = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
                waiting += [need for need in needs if applies_here(need, extra)]
    assert not faults
    assert len(seen) > 60  # the walk went beyond what the files name


def is_part_of_a_cuda_build(name: str) -> bool:
    """PyTorch's CPU build names none of these, whatever constraints.txt holds for its CUDA build."""
    return name.startswith(("nvidia-", "cuda-")) or name == "triton"


def test_pip_finds_no_conflict() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def install_lines() -> list[tuple[str, str]]:
    """(file, line) of every `pip install -r …` that a person or a program may run."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    files = [name for name in names if name.endswith((".md", ".txt", ".py", ".toml", ".ipynb", "Makefile", "run"))]
    return [
        (file, line.strip())
        for file in files
        if not file.startswith("tests/") and (ROOT / file).is_file()
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
        if re.search(r"pip3? install .*-r ", line)
    ]


def test_every_install_line_uses_the_constraints() -> None:
    lines = install_lines()
    assert {"README.md", "docs/windows.md", "requirements.txt"} <= {file for file, _ in lines}
    assert not [row for row in lines if not re.search(r"-c (constraints\.txt|\{LOCKED\})", row[1])]


def test_upgrade_keeps_comments_and_writes_a_line_for_each_python() -> None:
    text = "# head\nnumpy==1.0 ; python_version < '3.11'\nnumpy==2.0 ; python_version >= '3.11'  # why\ntoml==0.1\n"
    resolved = "numpy==1.5 ; python_full_version < '3.11'\nnumpy==2.5 ; python_full_version >= '3.11'\ntoml==0.2\nother==1\n"
    assert upgrade._repinned(text, resolved).splitlines() == [
        "# head",
        'numpy==1.5 ; python_full_version < "3.11"  # why',
        'numpy==2.5 ; python_full_version >= "3.11"',
        "toml==0.2",
    ]


def test_upgrade_shows_what_changed() -> None:
    (row,) = upgrade._changes("a==1\nb==1 ; sys_platform == 'win32'\n", "a==1\nb==2 ; sys_platform == 'win32'\n")
    assert row.split() == ["b", "1", "→", "2"]


def test_the_table_of_traps_bounds_packages_that_are_required_and_holds() -> None:
    named = {line.name: line for file in locked.FILES for line in locked.read(file)}
    traps = locked.traps()
    assert {"torch", "transformers"} <= traps.keys() <= named.keys()
    for name, bound in traps.items():
        assert Requirement(f"{name}{bound}").specifier.contains(str(named[name].version)), name
