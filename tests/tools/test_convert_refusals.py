"""tools/convert_diffusers20_original_sd.py: what it cannot write without changing the model, or without replacing something, it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from networks import merge_lora
from tests.messages import refusal
from tests.scripts.running import run_in_process
from tests.small_models import write_diffusers
from tools import convert_diffusers20_original_sd as convert

NORM = "model.diffusion_model.middle_block.1.norm.weight"


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line of a refusal of this command."""
    assert run_in_process(convert.main, *argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("target", ["new.safetensors", "new.ckpt", "new"])
def test_a_number_that_fp16_cannot_hold_is_told_and_nothing_written(target: str, tiny_v1: Path, tmp_path: Path, capsys) -> None:
    tensors = load_file(tiny_v1)
    tensors[NORM] = tensors[NORM].float() + 1e6
    save_file({name: tensor.float() for name, tensor in tensors.items()}, tmp_path / "wide.safetensors")
    line = refused(capsys, tmp_path / "wide.safetensors", tmp_path / target, "--fp16")
    refusal(line, "FILE-009", "model_to_load", "norm.weight", "F16", "--bf16")
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize(("part", "name", "value"), [("unet", "attention_head_dim", 4), ("text_encoder", "hidden_act", "silu")])
def test_a_setting_that_a_single_file_does_not_record_is_told(part: str, name: str, value: object, tmp_path: Path, capsys) -> None:
    write_diffusers(tmp_path / "folder")
    config = tmp_path / "folder" / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | {name: value}), encoding="utf-8")
    line = refused(capsys, tmp_path / "folder", tmp_path / "new.safetensors")
    refusal(line, "MODEL-012", "model_to_load", part, name, "Diffusers folder")
    assert not (tmp_path / "new.safetensors").exists()


def test_a_reference_with_an_unknown_prediction_is_told(tiny_v1: Path, tmp_path: Path, capsys) -> None:
    write_diffusers(tmp_path / "folder")
    config = tmp_path / "folder" / "scheduler" / "scheduler_config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text('{"prediction_type": "banana"}', encoding="utf-8")
    line = refused(capsys, tiny_v1, tmp_path / "new", "--reference_model", tmp_path / "folder")
    refusal(line, "MODEL-012", "--reference_model", "scheduler_config.json", "banana")
    assert not (tmp_path / "new").exists()


def test_a_folder_neither_replaces_a_file_nor_has_the_name_of_one(tiny_v1: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    refusal(refused(capsys, tiny_v1, tmp_path / "notes"), "PATH-003", "model_to_save", "notes", "folder")
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "mine"
    refusal(refused(capsys, tiny_v1, tmp_path / "new.pt"), "FILE-007", "model_to_save", "new.pt", ".safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_a_merged_model_has_no_name_of_other_weights(tiny_v1: Path, tmp_path: Path, capsys) -> None:
    argv = ("--sd_model", tiny_v1, "--models", tiny_v1, "--save_to", tmp_path / "new.pt")
    assert run_in_process(merge_lora.main, *argv) == 2
    refusal(capsys.readouterr().err, "FILE-007", "--save_to", "new.pt", ".safetensors")
