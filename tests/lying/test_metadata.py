"""Metadata may contain anything: the code that unfolds it checks it, and what no file can contain is not written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.lying.modules import write_lora
from tests.lying.readers import (
    OTHER_TOOLS,
    read_network,
    told,
    tool,
)
from tests.messages import refusal


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"a": 3, "b": "text"}])
def test_a_pickle_without_tensors_is_not_converted(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    refusal(told(OTHER_TOOLS["convert"], tmp_path / "x.ckpt", str(content)), "FILE-008", tmp_path / "x.ckpt", "nothing to convert")


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
    assert "--from_json" in told(tool("tools.edit_metadata", *words), tmp_path / "x.safetensors", text[:30])


def test_metadata_of_the_command_line_may_be_no_text_either(small: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(small)
    edit = tool("tools.edit_metadata", "--model", "FILE", "--set", "title=\udcff", "--save_to", "TARGET")
    refusal(told(edit, tmp_path / "x.safetensors", "--set"), "OPT-006", "--set", "title", "not valid text")
    for text in ("{'a': '\udcff'}", '{"a": "\\ud800"}', "[" * 100_000, "{1: 2}", "{'a': {1, 2}}"):
        convert = tool("tools.convert_diffusers20_original_sd", "FILE", "TARGET", "--metadata", text)
        assert "--metadata" in told(convert, tmp_path / "x.safetensors", text[:30])


def test_what_a_file_says_of_its_training_may_be_anything(tmp_path: Path, capsys) -> None:
    """Metadata are texts; the code that unfolds JSON in them has to check it."""
    odd = ["[" * 10_000, "[" * 900 + "]" * 900, '{"a": {"b": "c"}}', '{"a": "\\ud800"}', "[1]", "3", "{", '{"a": {"b": 1, "c": null}}']
    for text in odd:
        keys = ("ss_tag_frequency", "ss_datasets", "ss_network_args", "ss_resolution", "ss_optimizer", "ss_lr_scheduler")
        metadata = dict.fromkeys(keys, text) | {"ss_network_module": "networks.lora"}
        path = write_lora(tmp_path / "x.safetensors", metadata=metadata)
        for name in ("show_metadata", "config_from_run"):
            OTHER_TOOLS[name](path)
        (tmp_path / "made" / "made.safetensors.toml").unlink()
        capsys.readouterr().out.encode("utf-8")


@pytest.mark.parametrize("pattern", [r"((\w|\w)+)+!", "(a*)*b", "(x+x+)+y", "(a{1,9}){1,9}b", ".*.*.*.*.*.*!"])
def test_patterns_that_never_end_are_not_tried(pattern: str, tmp_path: Path) -> None:
    module = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{module}.lora_A.weight": torch.ones(4, 64), f"{module}.lora_B.weight": torch.ones(64, 4)}
    settings = {"unet.r": 4, "unet.lora_alpha": 4, "unet.alpha_pattern": {pattern: 2}}
    save_file(tensors, tmp_path / "x.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
    assert "unsupported alpha_pattern" in told(read_network, tmp_path / "x.safetensors", pattern)
    for alpha in (10**400, "4", float("nan"), 1e300):
        settings = {"unet.r": 4, "unet.lora_alpha": alpha}
        save_file(tensors, tmp_path / "x.safetensors", {"lora_adapter_metadata": json.dumps(settings)})
        said = told(read_network, tmp_path / "x.safetensors", str(alpha))
        code, words = ("CFG-012", "401 digits") if alpha == 10**400 else ("LORA-006", "number is expected")
        refusal(said, code, tmp_path / "x.safetensors", words)
