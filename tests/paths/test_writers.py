"""What a killed process left half written goes when the next one writes there, and nothing of a process that lives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from library import files
from library.files import atomic_folder, atomic_write, tidy
from library.paths import writers
from library.paths.faults import new_folder_fault
from library.paths.writers import has_writer, new_mark
from library.renaming import name_beside
from tests.paths.wrong_places import lay_down_rights

ROOT = Path(__file__).parents[2]
HALF = (
    "import sys; from pathlib import Path; from library.files import atomic_write\n"
    "with atomic_write(Path(sys.argv[1])) as temporary:\n"
    "    temporary.write_text('half'); print('written', flush=True); sys.stdin.read()\n"
)


@pytest.fixture(autouse=True)
def _as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_tidied", set())


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def test_the_next_writer_sweeps_what_a_killed_one_left_and_leaves_a_living_one_alone(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    process = subprocess.Popen([sys.executable, "-c", HALF, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline().strip() == b"written"
    (left,) = hidden(tmp_path)
    (tmp_path / ".a.json.0a1b2c3d.tmp").touch()  # of an older version, or of nobody knows whom
    with atomic_write(tmp_path / "other.txt") as temporary:
        temporary.write_text("x")
    assert left in hidden(tmp_path)
    process.kill()
    process.communicate()
    monkeypatch.setattr(files, "_tidied", set())
    with atomic_folder(tmp_path / "new") as fresh:
        (fresh / "x").touch()
    assert hidden(tmp_path) == [".a.json.0a1b2c3d.tmp"]


def test_a_number_that_another_process_has_now_is_no_writer(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a"
    path.touch()
    mark = new_mark()
    assert has_writer(path, mark)
    drawn, machine, process = mark.split("-")
    earlier = (int(process[:4], 16) - 60) % (1 << 16)
    assert not has_writer(path, f"{drawn}-{machine}-{earlier:04x}{process[4:]}")
    other = f"{drawn}-{(int(machine, 16) + 1) % 65536:04x}-{process}"
    assert has_writer(path, other)
    old = time.time() - writers.FOREIGN_AGE - 60
    os.utime(path, (old, old))
    assert not has_writer(path, other) and has_writer(path, mark)


def test_what_was_moved_aside_by_a_process_that_is_gone_gets_its_name_back(tmp_path: Path, monkeypatch) -> None:
    aside, fresh = name_beside(tmp_path / "state", "old"), name_beside(tmp_path / "state", "tmp")
    for folder in (aside, fresh):
        folder.mkdir()
    assert tidy(tmp_path) == []
    monkeypatch.setattr(files, "has_writer", lambda path, mark: False)
    assert tidy(tmp_path) == [fresh.name] and [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="root lays down its rights")
def test_the_rights_that_count_are_those_that_the_process_has_now(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert new_folder_fault(tmp_path / "closed") is None
    take_up = lay_down_rights()
    fault = new_folder_fault(tmp_path / "closed")
    take_up()
    assert fault is not None and fault.code == "PATH-005"
