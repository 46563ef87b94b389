"""What opens and what writes files, given pipes and devices: refused at once, and nothing takes their place."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from library.containers.weights_file import open_weights
from library.data.config.nearby_paths import near_names
from library.errors import UserError
from library.files import atomic_folder, atomic_write, sha256
from library.model.files.facts import inspect
from library.model.files.locate import locate
from library.options.suggest import missing_path
from library.paths.faults import part_fault, tree_fault
from library.paths.look import Thing, exists, expanded, is_file, is_folder, look, real, shown
from library.paths.opening import open_file, open_text, read_bytes, read_text, regular
from library.renaming import put_in_place
from library.training.logs.event_log import NAME, EventLog
from library.training.states.saved_state import FACTS_FILE, read_state
from tests.messages import refused
from tests.paths.wrong_places import CODES, another_user, in_time, made

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes have no names in folders there")


@pytest.fixture(autouse=True)
def rings() -> Iterator[None]:
    with in_time():
        yield


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    with made() as folders:
        yield folders


def test_asking_never_raises_and_says_what_is_there(places: dict[str, str]) -> None:
    things = {
        "file": Thing.FILE,
        "folder": Thing.FOLDER,
        "closed": Thing.DENIED,
        "loop": Thing.LOOP,
        "dangling": Thing.DANGLING,
        "long": Thing.TOO_LONG,
        "deep": Thing.TOO_LONG,
        "nul": Thing.IMPOSSIBLE,
        "half": Thing.IMPOSSIBLE,
        "pipe": Thing.SPECIAL,
        "socket": Thing.SPECIAL,
    }
    with another_user():
        assert {name: look(places[name]).thing for name in things} == things
        assert look(Path(places["folder"]) / "no such").thing is Thing.MISSING
        for name in CODES:
            if name in places:
                assert is_file(places[name]) == (name == "unreadable") and is_folder(places[name]) == (name == "closed folder")
                assert isinstance(real(places[name]), str)
        assert exists(places["pipe"]) and not exists(places["dangling"])
        assert expanded(Path("~nobody-of-this-name/x")) == Path("~nobody-of-this-name/x")


def test_a_path_is_shown_without_control_signs_and_never_endless() -> None:
    assert shown("a\x1b[2Jb\ud800") == "a\\x1b[2Jb\\ud800"
    assert len(shown("x" * 5000)) < 250


@pytest.mark.parametrize("reader", [open_file, open_text, read_bytes, read_text, regular, sha256])
def test_nothing_but_an_ordinary_file_is_opened(reader: Callable[[Path], object], places: dict[str, str]) -> None:
    for name in ("pipe", "socket", "device", "nul", "half", "folder", "loop", "dangling"):
        if name in places:
            with pytest.raises(OSError):
                reader(Path(places[name]))


def test_a_file_that_becomes_a_pipe_after_it_was_asked_about_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("library.paths.opening.regular", lambda path: path)
    with pytest.raises(OSError, match="is a named pipe"):
        open_file(tmp_path / "pipe")


@pytest.mark.parametrize("place", ["pipe", "device", "socket"])
def test_nothing_that_is_no_file_is_replaced_by_one(place: str, places: dict[str, str], tmp_path: Path) -> None:
    if place not in places or places[place] == "/dev/zero":
        pytest.skip("this user can make no device")
    target = Path(places[place])
    before, beside = target.stat().st_mode, sorted(target.parent.iterdir())
    new = tmp_path / "new"
    new.touch()
    for write in (lambda: atomic_write(target).__enter__(), lambda: atomic_folder(target).__enter__(), lambda: put_in_place(new, target)):
        with pytest.raises(OSError, match="not a file"):
            write()
    assert stat.S_IFMT(target.stat().st_mode) == stat.S_IFMT(before) and sorted(target.parent.iterdir()) == beside


@pytest.mark.parametrize("place", [place for place in CODES if place not in ("closed folder",)])
def test_a_model_that_cannot_be_opened_is_one_line(place: str, places: dict[str, str]) -> None:
    if place not in places:
        pytest.skip("cannot be made here")
    for act in (lambda path: locate(path, "--vae"), lambda path: inspect(path), lambda path: open_weights(Path(path), "--vae")):
        with another_user(), pytest.raises(UserError) as fault:
            act(places[place])
        assert len(fault.value.problems) == 1 and "\n" not in fault.value.problems[0]


def test_a_folder_of_a_model_with_a_pipe_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text("{}", encoding="utf-8")
    assert tree_fault(tmp_path) is None
    os.mkfifo(tmp_path / "unet" / "config.json")
    with refused("PATH-007", "--pretrained_model_name_or_path", tmp_path / "unet/config.json", "named pipe"):
        locate(str(tmp_path), "--pretrained_model_name_or_path")


def test_an_index_that_names_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "part.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}), encoding="utf-8")
    with pytest.raises(UserError):
        open_weights(index, "--vae")


def test_a_state_with_a_pipe_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / FACTS_FILE).write_text("{}", encoding="utf-8")
    os.mkfifo(tmp_path / "training.pt")
    with refused("PATH-007", "--resume", tmp_path / "training.pt", "named pipe"):
        read_state(tmp_path)


def test_a_log_of_events_that_is_a_pipe_does_not_hold_up_the_run(tmp_path: Path, heard) -> None:
    os.mkfifo(tmp_path / NAME)
    log = EventLog(tmp_path, "run", "session")
    log.write("saved", 1, {})
    log.close()
    assert log.failed == 1 and "is a named pipe" in heard.text


def test_a_link_that_leads_nowhere_is_never_its_own_near_name(places: dict[str, str]) -> None:
    link = Path(places["dangling"])
    assert str(link) not in missing_path(link) and f"'{link}'" not in near_names(link)
    with pytest.raises(UserError) as fault:
        locate(str(link), "--vae")
    assert "did you mean" not in str(fault.value) and "nowhere" in str(fault.value)


@pytest.mark.parametrize("text", ["../../x", "/x", "a/../../b", "C:\\x", "..\\x", "n" * 300, "a\nb", "a\ud800"])
def test_a_part_of_a_path_never_leads_out_of_its_folder(text: str) -> None:
    assert part_fault(text, folders=True) and part_fault(text)


@pytest.mark.parametrize("text", ["", "cat_", "runs/cat-", "a b", "katze ü", "..a"])
def test_other_parts_of_a_path_are_taken(text: str) -> None:
    assert part_fault(text, folders=True) is None
