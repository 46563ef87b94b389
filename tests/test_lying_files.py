"""Whoever reads a file of weights tells of one that lies in one line, and in no time; nothing is written, nothing asks for memory."""

from __future__ import annotations

import contextlib
import importlib
import json
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from library.containers.pickles import LEGACY_MAGIC
from library.containers.weights_file import open_weights
from library.errors import UserError
from tests.lying_files import (
    BOMBS,
    KEY,
    LYING_KIN,
    LYING_MODULES,
    LYING_TENSORS,
    damaged_zips,
    lying_safetensors,
    stored_tensor,
    write_lora,
    write_packed,
    write_pickle,
)

ROOT = Path(__file__).parents[1]
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


# Pickles and their zip archives.


def _weights(path: Path) -> object:
    file = open_weights(path, "--x")
    return list(file.read(file.infos))


PICKLE_READERS = {"weights": _weights, "model": _model, "embedding": _embedding, "convert": OTHER_TOOLS["convert"], **LORA_READERS}


@pytest.mark.parametrize("reader", PICKLE_READERS)
def test_a_damaged_zip_file_is_told_by_every_reader(reader: str, tmp_path: Path) -> None:
    module = {f"{KEY}.lora_down.weight": torch.ones(4, 64), f"{KEY}.lora_up.weight": torch.ones(64, 4)}
    torch.save(module, tmp_path / "sound.ckpt")
    PICKLE_READERS["weights"](tmp_path / "sound.ckpt")
    path = tmp_path / "x.ckpt"
    for case, content in damaged_zips((tmp_path / "sound.ckpt").read_bytes()).items():
        path.write_bytes(content)
        line = told(PICKLE_READERS[reader], path, case)
        if reader not in ("model", "embedding"):  # these need not read a file that is of another kind
            assert AGAIN in line and ("damaged" in line or "cut short" in line), f"{case}: {line}"


def test_a_file_that_asks_for_more_than_it_can_have_gets_nothing(tmp_path: Path) -> None:
    """In a process of its own, in which nothing else takes memory: each is refused in under 2 s, all in less than 200 MB."""
    for number, code in enumerate(BOMBS.values()):
        write_pickle(tmp_path / f"{number}.ckpt", code)
        if len(code) < 1 << 20:
            old = b"".join(pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {}))
            (tmp_path / f"{number}.old.ckpt").write_bytes(old + code)
    bomb = zlib.compressobj(9, wbits=-15)
    packed = b"".join([bomb.compress(b"]" * (1 << 20)) for _ in range(256)]) + bomb.flush()
    for claimed in (256 << 20, 1000):
        write_packed(tmp_path / f"packed.{claimed}.ckpt", "archive/data.pkl", packed, claimed)
    done = subprocess.run([sys.executable, "-c", _READ_ALL, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["seconds"]) == len(list(tmp_path.iterdir())) and max(found["seconds"].values()) < 2, found
    assert found["peak"] is None or found["peak"] < 200e6, found


_READ_ALL = """
import json, sys, time
from pathlib import Path
from library.containers.weights_file import open_weights
from library.errors import UserError
seconds = {}
for path in Path(sys.argv[1]).iterdir():
    begun = time.process_time()
    try:
        open_weights(path, "--x")
        raise SystemExit(f"{path} was read")
    except UserError:
        seconds[path.name] = time.process_time() - begun
status = Path("/proc/self/status")
peak = next((int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line), None) if status.exists() else None
print(json.dumps({"seconds": seconds, "peak": peak}))
"""


@pytest.mark.parametrize("case", LYING_TENSORS)
def test_a_tensor_that_is_not_in_its_storage_is_told_before_it_is_read(case: str, tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "x.ckpt", LYING_TENSORS[case], **{"0": b"\0" * 64})
    assert AGAIN in told(lambda path: open_weights(path, "--x"), path, case)


def test_the_same_tensors_in_their_storage_are_read(tmp_path: Path) -> None:
    numbers = torch.arange(16.0)
    for shape, stride, offset in (((4, 4), (4, 1), 0), ((4,), (1,), 12), ((2, 3), (0, 1), 4), ((0, 5), (5, 1), 0), ((), (), 3)):
        path = write_pickle(tmp_path / "x.ckpt", stored_tensor(shape, stride, offset), **{"0": numbers.numpy().tobytes()})
        file = open_weights(path, "--x")
        ((_, tensor),) = file.read(["a"])
        assert torch.equal(tensor, numbers.as_strided(shape, stride, offset)), shape
