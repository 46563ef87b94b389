"""Config files of a Diffusers folder whose settings no tensor contradicts: they are refused before anything is computed with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from library.errors import UserError
from library.model.load import load
from tests.messages import refusal
from tests.small_models import write_diffusers

LIES = (
    ("unet", "norm_num_groups", "x", "MODEL-012"),
    ("unet", "norm_num_groups", -1, "MODEL-012"),
    ("unet", "norm_eps", -1, "MODEL-012"),
    ("unet", "freq_shift", "x", "MODEL-012"),
    ("unet", "mid_block_scale_factor", 0, "MODEL-012"),
    ("unet", "attention_head_dim", -1, "MODEL-012"),
    ("unet", "attention_head_dim", [8, 8, None, 8], "MODEL-012"),
    ("unet", "up_block_types", None, "MODEL-010"),
    ("vae", "act_fn", None, "MODEL-012"),
    ("vae", "latents_mean", [1], "MODEL-012"),
    ("vae", "block_out_channels", {"a": 1}, "MODEL-010"),
    ("text_encoder", "num_attention_heads", -1, "MODEL-012"),
    ("text_encoder", "num_attention_heads", 3, "MODEL-010"),
    ("text_encoder", "layer_norm_eps", None, "MODEL-012"),
    ("text_encoder", "hidden_act", "\x1b[31m", "MODEL-010"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "diffusers"
    write_diffusers(path)
    return path


@pytest.mark.parametrize(("part", "name", "value", "code"), LIES)
def test_a_setting_that_no_tensor_contradicts_is_told_with_its_file(part: str, name: str, value: object, code: str, folder: Path) -> None:
    config = folder / part / "config.json"
    before = config.read_text(encoding="utf-8")
    config.write_text(json.dumps(json.loads(before) | {name: value}), encoding="utf-8")
    try:
        with pytest.raises(UserError) as caught:
            load(folder, option="--ckpt")
    finally:
        config.write_text(before, encoding="utf-8")
    (line,) = caught.value.lines
    refusal(line, code, "--ckpt", part, *([name, "expected"] if code == "MODEL-012" else ["architecture"]))
    assert "--pretrained_model_name_or_path" not in line
    assert "object" not in line
