"""All that read a file of weights, and their messages about a file that lies."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from library.containers.weights_file import open_weights
from library.errors import UserError

AGAIN = "download or copy it again"


def told(read: Callable[[Path], object], path: Path, case: str) -> str:
    """The lines, with their codes, that reading `path` ends with; anything else is a failure."""
    start = time.process_time()
    with pytest.raises(UserError) as error:
        read(path)
        raise AssertionError(f"{case}: was read")
    assert time.process_time() - start < 10, case  # far above what any needs; a hang ends the test run
    assert all("\n" not in line for line in error.value.problems), case
    return "\n".join(error.value.lines)


def read_model(path: Path) -> object:
    from library.model.files.facts import inspect

    return inspect(path)


def read_vae(path: Path) -> object:
    from library.model.load import load_vae

    return load_vae(path, torch.float32)


def read_network(path: Path) -> object:
    from library.lora.files import group_by_module, read_weights

    return group_by_module(read_weights(path), str(path))


def read_for_drawing(path: Path) -> object:
    from library.generation.networks import module_of

    return module_of(path)


def read_foreign_network(path: Path) -> object:
    from library.lora.file_copy import in_web_ui_names

    with in_web_ui_names(path) as checked:
        return open_weights(checked, "LoRA file")


def tool(module: str, *arguments: str) -> Callable[[Path], object]:
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


def read_embedding(path: Path) -> object:
    from library.model.files.embedding_files import read_vectors

    return read_vectors(path, (), 64, "--weights")


def read_state(path: Path) -> object:
    from library.training.states.accelerate_state import read_accelerate_state
    from library.training.states.accelerate_state_files import load_accelerate_weights

    folder = path.parent / "state"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(path.read_bytes())

    class Method:
        def modules(self) -> list[torch.nn.Module]:
            return [torch.nn.Linear(1, 1)]

    return load_accelerate_weights(read_accelerate_state(folder), Method())  # type: ignore[arg-type]


def read_averages(path: Path) -> object:
    from library.training.optim.ema import EMA_FILE, Ema

    (path.parent / EMA_FILE).write_bytes(path.read_bytes())
    return Ema([torch.zeros(2)], 0.9).load(path.parent)


LORA_TOOLS = {
    "merge_lora": tool("networks.merge_lora", "--models", "FILE", "--save_to", "TARGET"),
    "concat": tool("networks.merge_lora", "--models", "FILE", "FILE", "--concat", "--save_to", "TARGET"),
    "svd_merge_lora": tool("networks.svd_merge_lora", "--models", "FILE", "--new_rank", "2", "--save_to", "TARGET"),
    "resize_lora": tool("networks.resize_lora", "--model", "FILE", "--new_rank", "2", "--save_to", "TARGET"),
    "extract from dylora": tool("networks.extract_lora_from_dylora", "--model", "FILE", "--save_to", "TARGET", "--unit", "1"),
    "check": tool("networks.check_lora_weights", "FILE"),
}
OTHER_TOOLS = {
    "convert": tool("tools.convert_diffusers20_original_sd", "FILE", "TARGET"),
    "show_metadata": tool("tools.show_metadata", "--model", "FILE"),
    "edit_metadata": tool("tools.edit_metadata", "--model", "FILE", "--set", "title=x", "--save_to", "TARGET"),
    "config_from_run": tool("tools.config_from_run", "FILE", "TARGET"),
}
LORA_READERS = {"--network_weights": read_network, "another package's network": read_foreign_network, **LORA_TOOLS}


OTHERS = {"model": read_model, "VAE": read_vae, "embedding": read_embedding, "state": read_state, "averages": read_averages}
READERS = {**OTHERS, "network to draw with": read_for_drawing, **LORA_READERS, **OTHER_TOOLS}


def read_weights_of(path: Path) -> object:
    file = open_weights(path, "--x")
    return list(file.read(file.infos))


IN_PICKLES = {"weights": read_weights_of, "model": read_model, "embedding": read_embedding, "convert": OTHER_TOOLS["convert"]}
PICKLE_READERS = {**IN_PICKLES, **LORA_READERS}
