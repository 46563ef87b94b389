"""Whoever reads a safetensors file tells of a header or a module that lies in one line, and in no time; nothing is written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tests.lying.headers import lying_safetensors
from tests.lying.modules import KEY, LYING_KIN, LYING_MODULES, write_lora
from tests.lying.readers import (
    AGAIN,
    LORA_READERS,
    READERS,
    told,
)


@pytest.mark.parametrize("reader", READERS)
def test_a_header_that_lies_is_told_by_every_reader(reader: str, small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for case, content in lying_safetensors(small).items():
        path.write_bytes(content)
        assert AGAIN in told(READERS[reader], path, case), case


def test_safetensors_refuses_the_same_headers(small: bytes, tmp_path: Path) -> None:
    """So that nothing that other programs write is taken for a lie; it is silent where a name stands twice, of which
    it forgets one, and takes names of any length."""
    path, read = tmp_path / "x.safetensors", []
    for case, content in lying_safetensors(small).items():
        path.write_bytes(content)
        with contextlib.suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:
            read += [case for names in [list(file.keys())] if [file.get_tensor(name) for name in names]]
    assert read == ["the same name twice", "a name of a million letters"]


@pytest.mark.parametrize("reader", LORA_READERS)
def test_a_module_that_is_none_is_told_by_all_that_read_networks(reader: str, tmp_path: Path) -> None:
    for case, changed in LYING_MODULES.items():
        path = write_lora(tmp_path / "x.safetensors", **changed)
        if reader == "check" and "not a number" in case:
            assert "not finite" in told(READERS[reader], path, case)
        elif reader != "another package's network" or not ({None} & set(changed.values()) or "not a number" in case or "infinite" in case):
            assert KEY in told(READERS[reader], path, case), case


@pytest.mark.parametrize("reader", [name for name in LORA_READERS if name != "--network_weights"])
def test_a_module_of_another_kind_that_is_none_is_told(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for case, tensors in LYING_KIN.items():
        save_file({f"{KEY}.{kind}": tensor for kind, tensor in tensors.items()}, path)
        assert KEY in told(READERS[reader], path, case), case


@pytest.mark.parametrize("reader", LORA_READERS)
def test_modules_of_all_forms_that_are_in_use_are_no_lies(reader: str, tmp_path: Path) -> None:
    one = torch.rand
    forms: dict[str, dict[str, torch.Tensor | None]] = {
        "matrices": {"down": one(4, 64), "up": one(64, 4)},
        "a convolution": {"down": one(4, 64, 3, 3)},
        "a convolution of linear form beside one": {"up": one(64, 4)},
        "no alpha": {"alpha": None},
        "alpha of one axis": {"alpha": torch.tensor([4.0])},
        "alpha a whole number": {"alpha": torch.tensor(4)},
        "alpha in half precision": {"alpha": torch.tensor(4.0).half()},
        "half precision": {"down": one(4, 64, 1, 1).half(), "up": one(64, 4, 1, 1).bfloat16()},
        "a core": {"mid": one(4, 4, 3, 3)},
    }
    for form, changed in forms.items():
        path = write_lora(tmp_path / "x.safetensors", metadata={"ss_network_module": "networks.dylora"}, **changed)
        folder = tmp_path / form
        folder.mkdir()
        if reader != "--network_weights" or form != "a core":
            READERS[reader](path.rename(folder / "x.safetensors"))
