"""Whoever reads a file of weights tells of one that lies in one line, and in no time; nothing is written, nothing asks for memory."""

from __future__ import annotations

import base64
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
from safetensors.torch import load_file, save_file

from library.containers.pickles import LEGACY_MAGIC
from library.containers.weights_file import open_weights
from library.errors import UserError
from tests.lying_files import (
    BOMBS,
    KEY,
    LYING_KIN,
    LYING_MODULES,
    LYING_TENSORS,
    chunk,
    damaged_zips,
    lying_safetensors,
    png,
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


# What else a file of weights can say.


@pytest.mark.parametrize(
    "name",
    [
        "../a.safetensors",
        "/etc/passwd",
        "..",
        "",
        "sub/a.safetensors",
        "sub\\a.safetensors",
        "C:a.safetensors",
        "\0",
        "\ud800",
        3,
        None,
        ["a"],
    ],
)
def test_an_index_that_names_what_is_not_beside_it_is_told(name: object, tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        save_file({"a": torch.ones(2)}, place / "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    assert "which is no file beside it; download it again" in told(lambda path: open_weights(path, "--x"), index, str(name))


def test_an_index_that_names_itself_or_a_missing_file_or_tensor_is_told(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    save_file({"a": torch.ones(2)}, tmp_path / "b.safetensors")
    for table in ({"a": index.name}, {"a": "c.safetensors"}, {"x": "b.safetensors"}, [], 3, {"a": 1}):
        index.write_text(json.dumps({"weight_map": table}))
        told(lambda path: open_weights(path, "--x"), index, str(table))
    for text in ('{"weight_map":' + "[" * 10_000, '{"weight_map":{"a":' + "9" * 5000 + "}}", "[]", "", "{}"):
        index.write_text(text)
        told(lambda path: open_weights(path, "--x"), index, text[:40])


def test_a_model_of_impossible_tensors_is_refused_by_its_header(tiny_v1: Path, tiny_v2: Path, tmp_path: Path) -> None:
    """What the look before a run lets pass, loading does not stumble over."""
    unet, vae = "model.diffusion_model.", "first_stage_model.decoder."
    fused = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    cases: list[tuple[Path, str, torch.Tensor]] = [
        (tiny_v1, f"{unet}input_blocks.0.0.weight", torch.tensor(1.0)),
        (tiny_v1, f"{unet}input_blocks.0.0.weight", torch.ones(4)),
        (tiny_v1, f"{unet}input_blocks.1.0.in_layers.2.weight", torch.ones(0, 4, 3, 3)),
        (tiny_v1, f"{unet}input_blocks.1.0.in_layers.2.weight", torch.ones(4, dtype=torch.int8)),
        (tiny_v1, f"{unet}time_embed.0.weight", torch.ones(4, 4, dtype=torch.bool)),
        (tiny_v1, f"{vae}mid.attn_1.q.weight", torch.ones(4, 4, 3, 3)),
        (tiny_v2, fused, torch.tensor(1.0)),
        (tiny_v2, fused, torch.ones(7, 4)),
    ]
    for source, name, tensor in cases:
        tensors = load_file(source)
        assert name in tensors, name
        save_file(tensors | {name: tensor}, tmp_path / "x.safetensors")
        assert name in told(_model, tmp_path / "x.safetensors", name)


@pytest.mark.parametrize("number", [10**8, "9" * 5000])
def test_blocks_of_numbers_that_no_model_has_take_no_time(number: object, tiny_v1: Path, tmp_path: Path) -> None:
    """They have no place in the model: it is loaded without them, or refused."""
    from library.model.load import load

    unet, tensors = "model.diffusion_model.", load_file(tiny_v1)
    for name in (f"{unet}input_blocks.{number}.0.in_layers.2.weight", f"first_stage_model.decoder.up.{number}.block.0.conv1.weight"):
        save_file(tensors | {name: torch.ones(1, 1, 1, 1)}, tmp_path / "x.safetensors")
        begun = time.process_time()
        with contextlib.suppress(UserError):
            load(tmp_path / "x.safetensors")
        assert time.process_time() - begun < 60


def test_a_layer_that_cannot_be_built_is_told_by_all_that_load(tiny_v1: Path, tmp_path: Path) -> None:
    from library.model.load import load

    for name in ("first_stage_model.encoder.down.0.block.0.conv1.weight", "model.diffusion_model.input_blocks.1.1.proj_in.weight"):
        for tensor in (torch.ones(1), torch.ones(3, 3)):
            save_file(load_file(tiny_v1) | {name: tensor}, tmp_path / "x.safetensors")
            told(load, tmp_path / "x.safetensors", f"{name} {tensor.shape}")
            if "first_stage" in name:
                told(_vae, tmp_path / "x.safetensors", name)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(0, 64),
        torch.ones(2, 0),
        torch.full((2, 64), float("nan")),
        torch.ones(2, 64, dtype=torch.int32),
        torch.tensor(1.0),
        torch.ones(1, 1, 64),
    ],
)
def test_an_embedding_that_is_none_is_told(tensor: torch.Tensor, tmp_path: Path) -> None:
    save_file({"emb_params": tensor}, tmp_path / "x.safetensors")
    told(_embedding, tmp_path / "x.safetensors", str(tensor.shape))


def test_an_embedding_of_other_counts_for_each_layer_is_told(tmp_path: Path) -> None:
    from library.model.files.embedding_files import read_vectors

    save_file({"MID": torch.ones(2, 64), "IN01": torch.ones(3, 64)}, tmp_path / "x.safetensors")
    told(lambda path: read_vectors(path, ("IN01", "MID"), 64, "--weights"), tmp_path / "x.safetensors", "counts")


def test_an_image_with_an_embedding_is_no_bomb(tmp_path: Path) -> None:
    for content in (
        png(100_000, 100_000),
        png(9000, 9000),
        png(64, 64, chunks=chunk(b"tEXt", b"sd-ti-embedding\0" + base64.b64encode(b"[" * 100_000))),
        png(64, 64, chunks=chunk(b"zTXt", b"sd-ti-embedding\0\0" + zlib.compress(bytes(100 << 20)))),
    ):
        (tmp_path / "x.png").write_bytes(content)
        assert "is an image without an embedding" in told(_embedding, tmp_path / "x.png", str(len(content)))


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"a": 3, "b": "text"}])
def test_a_pickle_without_tensors_is_not_converted(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    assert "holds no tensors, so there is nothing to convert" in told(OTHER_TOOLS["convert"], tmp_path / "x.ckpt", str(content))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "\\ud800"}',
        '{"\\udfff": "a"}',
        '{"a": ["\\ud800"]}',
        '{"a":' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"a": ' + "9" * 5000 + "}",
    ],
)
def test_metadata_that_no_file_can_hold_is_told(text: str, small: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(small)
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    words = ("--model", "FILE", "--from_json", str(tmp_path / "x.json"), "--save_to", "TARGET")
    assert "--from_json" in told(_tool("tools.edit_metadata", *words), tmp_path / "x.safetensors", text[:30])


def test_metadata_of_the_command_line_may_be_no_text_either(small: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(small)
    edit = _tool("tools.edit_metadata", "--model", "FILE", "--set", "title=\udcff", "--save_to", "TARGET")
    assert "--set: title holds half of a sign" in told(edit, tmp_path / "x.safetensors", "--set")
    for text in ("{'a': '\udcff'}", '{"a": "\\ud800"}', "[" * 100_000, "{1: 2}", "{'a': {1, 2}}"):
        convert = _tool("tools.convert_diffusers20_original_sd", "FILE", "TARGET", "--metadata", text)
        assert "--metadata" in told(convert, tmp_path / "x.safetensors", text[:30])


def test_what_a_file_says_of_its_training_may_be_anything(tmp_path: Path, capsys) -> None:
    """Metadata are texts; what stands in them as JSON is for those to doubt who unfold it."""
    odd = ["[" * 10_000, "[" * 900 + "]" * 900, '{"a": {"b": "c"}}', '{"a": "\\ud800"}', "[1]", "3", "{", '{"a": {"b": 1, "c": null}}']
    for text in odd:
        keys = ("ss_tag_frequency", "ss_datasets", "ss_network_args", "ss_resolution", "ss_optimizer", "ss_lr_scheduler")
        metadata = dict.fromkeys(keys, text) | {"ss_network_module": "networks.lora"}
        path = write_lora(tmp_path / "x.safetensors", metadata=metadata)
        for tool in ("show_metadata", "config_from_run"):
            OTHER_TOOLS[tool](path)
        (tmp_path / "made" / "made.safetensors.toml").unlink()
        capsys.readouterr().out.encode("utf-8")


@pytest.mark.parametrize("pattern", [r"((\w|\w)+)+!", "(a*)*b", "(x+x+)+y", "(a{1,9}){1,9}b", ".*.*.*.*.*.*!"])
def test_patterns_that_never_end_are_not_tried(pattern: str, tmp_path: Path) -> None:
    module = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{module}.lora_A.weight": torch.ones(4, 64), f"{module}.lora_B.weight": torch.ones(64, 4)}
    settings = {"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": {pattern: 2}}
    save_file(tensors, tmp_path / "x.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
    assert "alpha_pattern that is not read" in told(_network, tmp_path / "x.safetensors", pattern)
    for alpha in (10**400, "4", float("nan"), 1e300):
        settings = {"unet.r": 4, "unet.lora_alpha": alpha}
        save_file(tensors, tmp_path / "x.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
        said = told(_network, tmp_path / "x.safetensors", str(alpha))
        assert ("a number of 401 digits" if alpha == 10**400 else "where a number is expected") in said


def test_a_bias_of_another_size_than_the_models_is_told(tiny_v1: Path, tmp_path: Path) -> None:
    from library.surgery.checkpoint import open_checkpoint

    shape = open_checkpoint(str(tiny_v1), "--sd_model", False).weights[KEY].shape
    down, up = torch.ones(4, *shape[1:]), torch.ones(shape[0], 4, *(1,) * len(shape[2:]))
    path = write_lora(tmp_path / "x.safetensors", down=down, up=up, diff_b=torch.ones(3))
    merge = _tool("networks.merge_lora", "--sd_model", str(tiny_v1), "--models", "FILE", "--save_to", "TARGET")
    assert f"{KEY} changes a bias of another size" in told(merge, path, "bias")
