"""Whoever reads a file of weights tells of one that lies in one line, and in no time; nothing is written, nothing asks for memory."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from library.containers.weights_file import open_weights
from library.errors import UserError
from tests.lying_files import KEY, LYING_KIN, LYING_MODULES, lying_safetensors, write_lora

AGAIN = "download or copy it again"


def told(read: Callable[[Path], object], path: Path, case: str) -> str:
    """The line that reading `path` ends with; anything else is a failure."""
    begun = time.monotonic()
    with pytest.raises(UserError) as caught:
        read(path)
        raise AssertionError(f"{case}: was read")
    assert time.monotonic() - begun < 10, case  # far above what any needs; a hang ends the test run
    assert all("\n" not in line for line in caught.value.problems), case
    return str(caught.value)


# The readers: each takes a file of safetensors, and what a sound one of its kind is.


def _model(path: Path) -> object:
    from library.model.files.facts import inspect

    return inspect(path)


def _vae(path: Path) -> object:
    from library.model.load import load_vae

    return load_vae(path, torch.float32)


def _network(path: Path) -> object:
    from library.lora.files import group_by_module, read_weights

    return group_by_module(read_weights(path), str(path))


def _foreign_network(path: Path) -> object:
    from library.lora.file_copy import in_web_ui_names

    with in_web_ui_names(path) as checked:
        return open_weights(checked, "LoRA file")


def _tool(module: str, *arguments: str) -> Callable[[Path], object]:
    def run(path: Path) -> object:
        main = importlib.import_module(module).main
        target = path.parent / "made" / "made.safetensors"
        target.parent.mkdir(exist_ok=True)
        words = [{"FILE": str(path), "TARGET": str(target)}.get(word, word) for word in arguments]
        try:
            return main(words)
        except UserError:
            assert not list(target.parent.iterdir()), "something was written"
            raise

    return run


def _embedding(path: Path) -> object:
    from library.model.files.embedding_files import read_vectors

    return read_vectors(path, (), 64, "--weights")


def _state(path: Path) -> object:
    from library.training.states.accelerate_state import read_accelerate_state
    from library.training.states.accelerate_state_files import load_accelerate_weights

    folder = path.parent / "state"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(path.read_bytes())

    class Method:
        def modules(self) -> list[torch.nn.Module]:
            return [torch.nn.Linear(1, 1)]

    return load_accelerate_weights(read_accelerate_state(folder), Method())  # type: ignore[arg-type]


def _averages(path: Path) -> object:
    from library.training.optim.ema import EMA_FILE, Ema

    (path.parent / EMA_FILE).write_bytes(path.read_bytes())
    return Ema([torch.zeros(2)], 0.9).load(path.parent)


LORA_TOOLS = {
    "merge_lora": _tool("networks.merge_lora", "--models", "FILE", "--save_to", "TARGET"),
    "concat": _tool("networks.merge_lora", "--models", "FILE", "FILE", "--concat", "--save_to", "TARGET"),
    "svd_merge_lora": _tool("networks.svd_merge_lora", "--models", "FILE", "--new_rank", "2", "--save_to", "TARGET"),
    "resize_lora": _tool("networks.resize_lora", "--model", "FILE", "--new_rank", "2", "--save_to", "TARGET"),
    "extract from dylora": _tool("networks.extract_lora_from_dylora", "--model", "FILE", "--save_to", "TARGET", "--unit", "1"),
    "check": _tool("networks.check_lora_weights", "FILE"),
}
OTHER_TOOLS = {
    "convert": _tool("tools.convert_diffusers20_original_sd", "FILE", "TARGET"),
    "show_metadata": _tool("tools.show_metadata", "--model", "FILE"),
    "edit_metadata": _tool("tools.edit_metadata", "--model", "FILE", "--set", "title=x", "--save_to", "TARGET"),
    "config_from_run": _tool("tools.config_from_run", "FILE", "TARGET"),
}
LORA_READERS = {"--network_weights": _network, "another package's network": _foreign_network, **LORA_TOOLS}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound file of two tensors and some metadata."""
    path = tmp_path_factory.mktemp("small") / "a.safetensors"
    save_file({"a": torch.ones(2, 3), "b": torch.ones(3, 2), "c": torch.tensor(1.0)}, path, {"ss_network_module": "networks.lora"})
    return path.read_bytes()


READERS = {"model": _model, "VAE": _vae, "embedding": _embedding, "state": _state, "averages": _averages, **LORA_READERS, **OTHER_TOOLS}


@pytest.mark.parametrize("reader", READERS)
def test_a_header_that_lies_is_told_by_every_reader(reader: str, small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for case, content in lying_safetensors(small).items():
        path.write_bytes(content)
        assert AGAIN in told(READERS[reader], path, case), case


def test_safetensors_refuses_the_same_headers(small: bytes, tmp_path: Path) -> None:
    """So that nothing that other programs write is taken for a lie; it is silent where a name stands twice, of which it forgets one."""
    path, read = tmp_path / "x.safetensors", []
    for case, content in lying_safetensors(small).items():
        path.write_bytes(content)
        with contextlib.suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:
            read += [case for names in [list(file.keys())] if [file.get_tensor(name) for name in names]]
    assert read == ["the same name twice"]


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
