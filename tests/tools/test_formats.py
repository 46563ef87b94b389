"""tools/: models keep their weights through every conversion, and metadata is shown and changed while tensors stay bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from library.containers.weights_file import open_weights
from library.lora.files import model_hashes
from library.model.save import NETWORKS
from tests.messages import refusal
from tests.scripts.running import run_in_process, tensors_equal
from tests.small_models import write_checkpoint
from tools import convert_diffusers20_original_sd as convert
from tools import edit_metadata, show_metadata


def run(tool, *argv: object) -> int:
    return run_in_process(tool.main, *argv)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


@pytest.fixture(scope="module")
def folder(tiny_v1: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model converted to a Diffusers folder of safetensors."""
    path = tmp_path_factory.mktemp("converted") / "folder"
    assert run(convert, tiny_v1, path, "--use_safetensors", "--v1") == 0
    return path


def test_a_model_comes_back_from_the_diffusers_layout_as_it_was(tiny_v1: Path, folder: Path, tmp_path: Path) -> None:
    back = tmp_path / "back.safetensors"
    options = ("--epoch", 3, "--global_step", 70, "--metadata", "{'name': 'mine', 'size': [1, 2]}")
    assert run(convert, folder, back, *options) == 0
    before, after = load_file(tiny_v1), load_file(back)
    parts = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    assert {name for name in before if name.startswith(parts)} == after.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    said = metadata(back)
    assert (said["epoch"], said["global_step"], said["name"], said["size"]) == ("3", "70", "mine", "[1, 2]")


def test_diffusers_opens_the_folder_with_its_variant_and_scheduler(tiny_v1: Path, folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    scheduler = folder / "scheduler" / "scheduler_config.json"
    other = tmp_path / "other"
    (other / "scheduler").mkdir(parents=True)
    (other / "unet").mkdir()
    settings = json.loads(scheduler.read_text(encoding="utf-8")) | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
    (other / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings), encoding="utf-8")
    converted = tmp_path / "made"
    assert run(convert, tiny_v1, converted, "--bf16", "--variant", "fp16", "--reference_model", other) == 0
    assert (converted / "unet" / "diffusion_pytorch_model.fp16.bin").is_file()
    assert run(convert, tiny_v1, converted, "--use_safetensors", "--bf16", "--variant", "fp16", "--reference_model", other) == 0
    pipeline = StableDiffusionPipeline.from_pretrained(converted, variant="fp16", local_files_only=True, torch_dtype=torch.bfloat16)
    assert type(pipeline.scheduler).__name__ == "DDIMScheduler" and pipeline.scheduler.config.prediction_type == "v_prediction"
    name = "model.diffusion_model.input_blocks.0.0.weight"
    assert torch.equal(pipeline.unet.conv_in.weight, load_file(tiny_v1)[name].bfloat16())


def test_between_single_files_all_tensors_stay(tiny_v1: Path, tmp_path: Path, capsys) -> None:
    pickled, back, half = tmp_path / "m.ckpt", tmp_path / "m.safetensors", tmp_path / "half.safetensors"
    assert run(convert, tiny_v1, pickled, "--epoch", 2) == 0
    assert run(convert, pickled, back, "--epoch", 1, "--unet_use_linear_projection") == 0
    assert tensors_equal(tiny_v1, back) and metadata(back)["epoch"] == "3"
    assert run(convert, tiny_v1, half, "--float") == 0
    kinds = {name: info.dtype for name, info in open_weights(half, "x").infos.items()}
    assert kinds["first_stage_model.quant_conv.weight"] == "F32" and kinds["model_ema.num_updates"] == "I32"
    for target, options, asked in (
        ("x.safetensors", ("--fp16", "--bf16"), ("OPT-008", "--fp16, --bf16, --float")),
        ("x.safetensors", ("--v1", "--v2"), ("OPT-008", "--v1, --v2")),
        ("x.safetensors", ("--v2",), ("MODEL-007", "--v2:", "v1 model")),
        ("x.safetensors", ("--variant", "fp16"), ("OPT-008", "--variant:", "folder")),
        ("x.safetensors", ("--metadata", "name"), ("TOOL-009", "--metadata 'name'", "{'name': 'mine'")),
        ("x.safetensors", ("--v_parameterization",), ("OPT-008", "--v_parameterization:", "single files")),
        ("x.ckpt", ("--metadata", "{}"), ("OPT-008", "--metadata", ".ckpt")),
        ("x", ("--epoch", 1), ("OPT-008", "--epoch:", "single file")),
    ):
        assert run(convert, tiny_v1, tmp_path / target, *options) == 2
        refusal(capsys.readouterr().err, *asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.safetensors", "m.ckpt", "m.safetensors"]


@pytest.mark.parametrize(("flag", "dtype"), [("--fp16", torch.float16), ("--bf16", torch.bfloat16), ("--float", torch.float32)])
@pytest.mark.parametrize("target", ["x.safetensors", "x.ckpt", "x"])
def test_the_networks_are_written_in_the_precision_asked_for(flag: str, dtype: torch.dtype, target: str, tmp_path: Path) -> None:
    stored = torch.float32 if dtype != torch.float32 else torch.bfloat16  # another one, so that leaving it as it is would show
    source = write_checkpoint(tmp_path / "source.safetensors", dtype=stored)
    assert run(convert, source, tmp_path / target, flag) == 0
    before, name = load_file(source), "model.diffusion_model.input_blocks.0.0.weight"
    if target == "x":
        parts = [torch.load(path, weights_only=True) for path in sorted((tmp_path / "x").rglob("*.bin"))]
        tensors = {f"{place}.{key}": tensor for place, part in enumerate(parts) for key, tensor in part.items()}
        (unet,) = [part for part in parts if "conv_in.weight" in part]
        assert len(parts) == 3 and torch.equal(unet["conv_in.weight"], before[name].to(dtype))
    else:
        tensors = load_file(tmp_path / target) if target.endswith(".safetensors") else torch.load(tmp_path / target)["state_dict"]
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith(NETWORKS) and tensor.dim()}
        assert torch.equal(tensors[name], before[name].to(dtype))
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {dtype}


@pytest.mark.parametrize("target", ["x.safetensors", "x"])
def test_a_flag_of_the_wrong_version_is_told(tiny_v1: Path, tiny_v2: Path, target: str, tmp_path: Path, capsys) -> None:
    for model, flag, version in ((tiny_v1, "--v2", "v1"), (tiny_v2, "--v1", "v2")):
        assert run(convert, model, tmp_path / target, flag) == 2
        refusal(capsys.readouterr().err.splitlines()[-1:], "MODEL-007", f"{flag}: model_to_load", f"{version} model", "remove the flag")
    assert not list(tmp_path.iterdir())


def test_v2_folders_say_whether_the_model_predicts_velocity(tiny_v2: Path, tmp_path: Path) -> None:
    assert run(convert, tiny_v2, tmp_path / "v", "--v2", "--v_parameterization", "--use_safetensors") == 0
    said = json.loads((tmp_path / "v" / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert said["prediction_type"] == "v_prediction" and said["_class_name"] == "DDIMScheduler"


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A file of over 1 MiB, where the short hash looks, with training's metadata."""
    torch.manual_seed(0)
    weights = {"lora_unet_a.lora_up.weight": torch.randn(600, 600), "lora_unet_a.alpha": torch.tensor(1.0)}
    training = {"ss_network_dim": "4", "ss_tag_frequency": json.dumps({"10_cat": {"cat": 3, "grün": 12}}), "title": "old"}
    save_file(weights, tmp_path / "l.safetensors", {**training, **model_hashes(weights, training)})
    return tmp_path / "l.safetensors"


def test_metadata_is_shown_for_people_and_for_programs(lora: Path, capsys) -> None:
    assert run(show_metadata, "--model", lora) == 0
    output = capsys.readouterr().out
    assert "l.safetensors: 2 tensors (2 F32), 360,001 numbers" in output and "10_cat: grün 12, cat 3" in output
    assert output.index("training:") < output.index("hashes:") < output.index("other:\n  title:")
    assert run(show_metadata, "--model", lora, "--json") == 0
    assert json.loads(capsys.readouterr().out) == metadata(lora)


def test_entries_are_changed_and_tensors_and_hashes_stay_true(lora: Path, tmp_path: Path) -> None:
    other, before = tmp_path / "other.safetensors", metadata(lora)
    table = tmp_path / "more.json"
    table.write_text(json.dumps({"author": "ä", "list": [1]}), encoding="utf-8")
    changes = ("--remove", "ss_tag_*", "--set", "title=new = better", "--from_json", table)
    assert run(edit_metadata, "--model", lora, *changes, "--save_to", other) == 0
    said, weights = metadata(other), load_file(other)
    assert metadata(lora) == before and tensors_equal(lora, other)
    assert (said["title"], said["author"], said["list"]) == ("new = better", "ä", "[1]") and "ss_tag_frequency" not in said
    hashes = model_hashes(weights, said)
    assert {name: said[name] for name in hashes} == hashes and said["sshs_legacy_hash"] != before["sshs_legacy_hash"]
    assert run(edit_metadata, "--model", lora, "--clear", "--set", "a=1") == 0
    assert metadata(lora) == {"a": "1"} and tensors_equal(lora, other)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_an_edit_that_cannot_be_is_told_and_changes_nothing(lora: Path, tmp_path: Path, capsys) -> None:
    before = lora.read_bytes()
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    for options, asked in (
        ((), ("TOOL-002", "--set, --remove, --from_json, --clear")),
        (("--remove", "ss_nothing"), ("TOOL-009", "--remove ss_nothing")),
        (("--set", "title"), ("OPT-010", "--set 'title'", "key=value")),
        (("--set", "title=a", "title=b"), ("OPT-010", "--set 'title'", "twice")),
        (("--from_json", tmp_path / "bad.json"), ("CFG-002", f"--from_json {tmp_path / 'bad.json'}", "JSON")),
        (("--set", "a=1", "--save_to", tmp_path / "x.ckpt"), ("TOOL-009", "--save_to", ".safetensors")),
    ):
        assert run(edit_metadata, "--model", lora, *options) == 2
        refusal(capsys.readouterr().err, *asked)
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pt")
    assert run(show_metadata, "--model", tmp_path / "x.pt") == 2
    refusal(capsys.readouterr().err, "TOOL-009", tmp_path / "x.pt", ".safetensors")
    assert lora.read_bytes() == before
