"""A pickle that contains code, has no tensors or is cut short is refused as what it is by every reader, and its code never runs."""

from __future__ import annotations

import os
import pickle
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from library.containers.torch_files import read_plain
from library.containers.weights_file import open_weights
from tests.lying.modules import KEY
from tests.lying.readers import IN_PICKLES, LORA_READERS, READERS, read_foreign_network, read_network, read_weights_of, told
from tests.messages import refusal, refusals


class Attack:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.mark),))


CALL = f"({os.mkdir.__module__}.mkdir)"


def _saved(content: object, path: Path) -> None:
    torch.save(content, path)


def _saved_before_zip(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _bare(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, 0))


FORMS: dict[str, Callable[[object, Path], None]] = {"zip": _saved, "before zip": _saved_before_zip, "bare pickle": _bare}
PLACES: dict[str, Callable[[Attack], object]] = {
    "the whole file": lambda attack: attack,
    "in a table": lambda attack: {"a": attack},
    "as the table of weights": lambda attack: {"state_dict": attack},
}


@pytest.mark.parametrize("reader", {**READERS, **IN_PICKLES})
@pytest.mark.parametrize("place", PLACES)
def test_a_file_with_code_is_refused_as_that_by_every_reader(reader: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    for name, save in FORMS.items():
        save(PLACES[place](Attack(tmp_path / "ran")), path)
        line = told({**READERS, **IN_PICKLES}[reader], path, name)
        refusals(line, ("FILE-006", "contains code", CALL, "was not read", "trust"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_state_of_any_form_with_code_says_that(form: str, tmp_path: Path) -> None:
    FORMS[form]({"a": Attack(tmp_path / "ran")}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=rf"contains code \({os.mkdir.__module__}\.mkdir\) and was not read"):
        read_plain(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


def test_code_beside_tensors_is_left_out_and_never_handed_to_another_package(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    sound = {f"{KEY}.lora_down.weight": torch.ones(4, 64), f"{KEY}.lora_up.weight": torch.ones(64, 4)}
    torch.save({**sound, "callback": Attack(tmp_path / "ran")}, path)
    assert read_network(path).keys() == {KEY}
    assert read_foreign_network(path).infos.keys() == sound.keys()  # a copy without the code
    torch.save({"unknown": torch.ones(2), "callback": Attack(tmp_path / "ran")}, path)
    refusal(told(read_foreign_network, path, "unknown"), "FILE-006", path, CALL)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        {"lr": 1.0, "kind": torch.float16, "on": torch.device("cpu"), "n": Counter("ab")},
        OrderedDict(a=[torch.ones(1)]),
    ],
)
@pytest.mark.parametrize("save", [_saved, _saved_before_zip])
def test_a_file_without_tensors_is_not_said_to_contain_code(content: object, save: Callable[[object, Path], None], tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    save(content, path)
    assert not open_weights(path, "--x").infos
    refusal(told(read_network, path, "network"), "FILE-008", path)
    for reader in ("merge_lora", "resize_lora", "check"):
        refusal(told(LORA_READERS[reader], path, reader), "LORA-001", path, "has no LoRA")
    for reader, code in (("model", "MODEL-017"), ("VAE", "MODEL-008"), ("embedding", "LORA-012"), ("convert", "FILE-008")):
        refusal(told(READERS[reader], path, reader), code, path.name)
    for reader in ("show_metadata", "edit_metadata", "config_from_run"):
        refusal(told(READERS[reader], path, reader), "TOOL-009", path, ".safetensors")


@pytest.mark.parametrize("save", FORMS.values())
def test_an_object_of_another_program_is_code_too(save: Callable[[object, Path], None], tmp_path: Path) -> None:
    save({"args": Namespace(lr=1)}, tmp_path / "x.pt")
    refusal(told(read_weights_of, tmp_path / "x.pt", "object"), "FILE-006", "(argparse.Namespace)")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("save", [_saved, _saved_before_zip])
def test_a_file_that_is_cut_short_is_told_as_that(reader: str, save: Callable[[object, Path], None], tmp_path: Path) -> None:
    save({"a": torch.ones(2000), "b": Attack(tmp_path / "ran")}, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    for length in (20, 100, len(whole) // 2, len(whole) - 30):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        refusals(told(READERS[reader], tmp_path / "x.pt", str(length)), ("FILE-005", "truncated", "again"))
