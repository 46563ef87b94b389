"""States that contain code, ask for endless memory or are damaged inside: refused in one line, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from library.containers.pickles import ContainsCode
from library.containers.torch_files import read_plain
from library.errors import UserError
from library.training.states import state_files
from library.training.states.accelerate_state import read_accelerate_state
from library.training.states.accelerate_state_files import _read
from library.training.states.saved_state import check_contents
from library.training.states.state_files import TRAINING_FILE, read_training
from tests.lying.pickles import BOMBS, damaged_zips, write_pickle
from tests.messages import message, refusals, refused

REMEMBERED = {
    "optimizer_class": "AdamW",
    "schedule_class": "LambdaLR",
    "optimizer": {"state": {0: {"step": torch.ones(())}}},
    "schedule": {},
}


class Attack:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("where", ["scaler", "schedule", "optimizer_class"])
@pytest.mark.parametrize("what", ["a call", "an object"])
def test_a_state_that_holds_code_says_so_and_gives_no_advice_to_run_it(where: str, what: str, tmp_path: Path) -> None:
    content = REMEMBERED | {"scaler": None} | {where: Attack(tmp_path / "ran") if what == "a call" else torch.nn.Linear(1, 1)}
    torch.save(content, tmp_path / TRAINING_FILE)
    with pytest.raises(UserError) as error:
        read_training(tmp_path)
    name = f"{os.mkdir.__module__}.mkdir" if what == "a call" else "torch.nn.modules.linear.Linear"
    refusals(error.value, ("FILE-006", f"--resume {tmp_path}", TRAINING_FILE, f"({name})", "older state"))
    assert "weights_only" not in str(error.value) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("wording", ["contains code and was not read", "runs a program"])
@pytest.mark.parametrize(("fault", "code"), [(ContainsCode, "FILE-006"), (ValueError, "STATE-002")])
def test_the_error_code_of_a_refused_file_does_not_depend_on_the_wording(
    fault: type[ValueError], code: str, wording: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mapped: bool) -> object:
        raise fault(wording)

    monkeypatch.setattr(state_files, "read_plain", refuse)
    with pytest.raises(UserError) as caught:
        read_training(tmp_path)
    assert [problem.code for problem in caught.value.problems] == [code]


def test_an_accelerate_state_that_holds_code_starts_that_part_anew(tmp_path: Path, heard) -> None:
    (tmp_path / "model.safetensors").touch()
    torch.save(Attack(tmp_path / "ran"), tmp_path / "optimizer.bin")
    assert _read(read_accelerate_state(tmp_path), tmp_path / "optimizer.bin") is None
    (line,) = heard.warnings
    message(line, "optimizer.bin", "code", "reset")
    assert "weights_only" not in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["zip file", "as it is"])
def test_what_asks_for_more_than_it_has_is_not_read(form: str, tmp_path: Path) -> None:
    """Each would take gigabytes, end the process or never end."""
    for case, code in BOMBS.items():
        if case == "a place in a table of billions" and form == "zip file":  # which is harmless to who keeps a dictionary, as torch does
            continue
        if form == "zip file":
            write_pickle(tmp_path / "a.pt", code)
        else:
            (tmp_path / "a.pt").write_bytes(code)
        with pytest.raises(ValueError, match=r"damaged|truncated|not a checkpoint|no real file"):
            read_plain(tmp_path / "a.pt")
            raise AssertionError(case)


def test_a_state_damaged_inside_is_told_before_it_is_read(tmp_path: Path) -> None:
    torch.save(REMEMBERED | {"scaler": None}, tmp_path / TRAINING_FILE)
    read_training(tmp_path)
    (tmp_path / "state.json").write_text('{"crc32": {}}')
    check_contents(tmp_path)
    sound = (tmp_path / TRAINING_FILE).read_bytes()
    for case, content in damaged_zips(sound).items():
        (tmp_path / TRAINING_FILE).write_bytes(content)
        with refused("STATE-002", TRAINING_FILE, "damaged", "older state"):
            check_contents(tmp_path)
            raise AssertionError(case)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        3,
        {"optimizer": {}},
        REMEMBERED | {"scaler": 3},
        REMEMBERED | {"optimizer": [], "scaler": None},
        OrderedDict(a=torch.ones(1)),
    ],
)
def test_a_file_of_something_else_is_told(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / TRAINING_FILE)
    with refused("STATE-002", TRAINING_FILE, "format", "older state"):
        read_training(tmp_path)


def test_a_plain_pickle_is_no_state(tmp_path: Path) -> None:
    (tmp_path / TRAINING_FILE).write_bytes(pickle.dumps({"a": 1}))
    with refused("STATE-002", TRAINING_FILE, "damaged", "older state"):
        read_training(tmp_path)
