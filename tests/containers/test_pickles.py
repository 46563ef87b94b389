"""Pickled files in the form that torch wrote before 1.6, with all that is in them next to the weights."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from library.containers.weights_file import open_weights
from tests.messages import refused


class Moments:
    """Represents an object of a class that is not installed where the file is read."""

    def __init__(self) -> None:
        self.table = {"best": Path("x"), "score": torch.randn(7)}


WEIGHTS = {"a": torch.randn(3, 4).half(), "b": torch.arange(6).view(2, 3).t(), "c": torch.randn(2, 2, dtype=torch.bfloat16)}
MOMENTS = {"state": {0: {"exp_avg": torch.randn(5), "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1.0}]}
COMPANY = {
    "optimizer_states": {"optimizer_states": [MOMENTS]},
    "kinds that no weights have": {"complex": torch.randn(3, dtype=torch.complex64), "double": torch.randn(2, dtype=torch.complex128)},
    "views of one storage": {"ema": [torch.randn(100)[3:9], torch.randn(4, 4)[:, 1]]},
    "objects": {"callbacks": {Moments: Moments()}, "device": torch.device("cpu"), "dtype": torch.float16, "number": np.float64(3.0)},
    "a layer": {"model": torch.nn.Linear(2, 2)},
    "bytes": {"bytes": torch.UntypedStorage(7), "flags": torch.tensor([True, False]), "ordered": OrderedDict(x=torch.ones(2).double())},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMPANY)
@pytest.mark.parametrize("order", ["for one update of the weights", "behind the weights"])
def test_what_lies_beside_the_weights_does_not_hinder_reading_them(name: str, order: str, tmp_path: Path) -> None:
    content = {"state_dict": WEIGHTS, **COMPANY[name]} if order.startswith("behind") else {**COMPANY[name], "state_dict": WEIGHTS}
    torch.save(content | {"global_step": 3}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    file = open_weights(tmp_path / "old.ckpt", "--x")
    assert file.infos.keys() == WEIGHTS.keys() and file.metadata == {"global_step": "3"}
    assert all(torch.equal(tensor, WEIGHTS[name]) for name, tensor in file.read(WEIGHTS))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_without_a_table_of_tensors_is_not_called_damaged(zipped: bool, tmp_path: Path) -> None:
    torch.save([torch.randn(2), torch.randn(2)], tmp_path / "list.pt", _use_new_zipfile_serialization=zipped)
    with refused("FILE-006", "--x", tmp_path / "list.pt", "named tensors"):
        open_weights(tmp_path / "list.pt", "--x")


def test_an_old_file_that_is_cut_short_is_still_told(tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, **COMPANY["optimizer_states"]}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    (tmp_path / "old.ckpt").write_bytes((tmp_path / "old.ckpt").read_bytes()[:-30])
    with refused("FILE-005", "--x", tmp_path / "old.ckpt", "truncated"):
        open_weights(tmp_path / "old.ckpt", "--x")
