"""The disk is asked in one room, library/paths: elsewhere a closed folder is a traceback, and a pipe a run that waits."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.contracts.test_layers import ROOT, source_files

ROOM = ROOT / "library" / "paths"
ASKS = {"is_file", "is_dir", "exists", "is_symlink_to", "is_fifo", "expanduser", "is_mount", "is_socket"}  # raise below a closed folder
READS = {"read_text", "read_bytes", "glob", "rglob"}  # of a path
THEIRS = {  # names of functions that open a path themselves, by the end of what is called
    "np.load", "numpy.load", "np.fromfile", "Image.open", "io.open", "os.walk", "os.open", "os.path.realpath", "os.path.exists",
    "os.path.isfile", "os.path.isdir", "toml.load", "json.load",
}  # fmt: skip
# (file, what it calls): why it may
ALLOWED = {
    ("library/doctor/driver.py", "glob"): "the system's own folder",
    ("library/image_endings.py", "glob"): "a package's own folder",
    ("library/containers/archives.py", "open"): "members of an archive that is open",
    ("library/doctor/places.py", "read_text"): "/proc/self/mountinfo, with an error handler of its own",
    ("library/renaming.py", "os.open"): "a folder, to flush it",
    ("library/telling/streams.py", "os.open"): "the system's own nowhere, in the place of an output that is closed",
}


def faults_of(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, call) of every question to the disk that goes past the room."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if (isinstance(node.func, ast.Attribute) and node.func.attr in ASKS and not node.args) or (
            isinstance(node.func, ast.Attribute) and node.func.attr in READS
        ):
            found.append((node.lineno, node.func.attr))
        elif called in THEIRS and not _checked(node):
            found.append((node.lineno, called))
        elif _opens_to_read(node, called):
            found.append((node.lineno, "open"))
    return found


def _checked(node: ast.Call) -> bool:
    """Whether what is opened went through `regular`, or is a file that is open already."""
    return bool(node.args) and ("regular(" in ast.unparse(node.args[0]))


def _opens_to_read(node: ast.Call, called: str) -> bool:
    if called == "open":
        return True
    if not (isinstance(node.func, ast.Attribute) and node.func.attr == "open") or called in (
        "gzip.open",
        "archive.open",
        "webbrowser.open",
    ):
        return False
    modes = [ast.literal_eval(arg) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return "archive" not in called and called.split(".")[0] != "Image" and not any(set(mode) & set("wxa+") for mode in modes)


def test_the_disk_is_asked_in_one_room() -> None:
    faults = []
    for path in source_files():
        name = path.relative_to(ROOT).as_posix()
        if path.parent != ROOM:
            calls = faults_of(ast.parse(path.read_text(encoding="utf-8")))
            faults += [f"{name}:{line} {call}: use library.paths" for line, call in calls if (name, call) not in ALLOWED]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "code",
    [
        "path.exists()",
        "(a / b).is_file()",
        "path.read_text(encoding='utf-8')",
        "np.load(file)",
        "Image.open(path)",
        "path.open('rb')",
        "open(p)",
        "folder.glob('*.pt')",
    ],
)
def test_a_question_that_goes_past_the_room_is_found(code: str) -> None:
    assert faults_of(ast.parse(code))


@pytest.mark.parametrize("code", ["is_file(path)", "np.load(regular(file))", "path.open('wb')", "archive.open(name)", "entry.stat()"])
def test_what_goes_through_it_is_not(code: str) -> None:
    assert not faults_of(ast.parse(code))


def test_what_is_allowed_is_there() -> None:
    for name, call in ALLOWED:
        assert call in {found for _, found in faults_of(ast.parse((ROOT / Path(name)).read_text(encoding="utf-8")))}, name
