"""`rs_lora` and `network_reg_dims`: which ranks and strengths come of them, also for other programs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from safetensors.torch import load_file

from networks import dora, dylora, lora, lora_fa
from tests.messages import refused
from tests.networks.models import tiny_text_encoder, tiny_unet


@pytest.mark.parametrize("module", [lora, dora, dylora, lora_fa])
def test_rs_lora_scales_by_the_root_for_every_program(module, tmp_path: Path) -> None:
    """alpha/√rank (Kalajdzievski 2023); programs compute alpha/rank of what the file says."""
    network = module.create_network(1.0, 4, 3.0, None, None, tiny_unet(), conv_dim="2", conv_alpha="5", rs_lora="True")
    network.save_weights(tmp_path / "rs.safetensors", None, None)
    tensors = load_file(tmp_path / "rs.safetensors")
    scales = {
        (layer.rank, round(layer.scale, 6), round(float(tensors[f"{key}.alpha"]) / layer.rank, 6))
        for key, layer in network.layers().items()
    }
    assert scales == {(4, 1.5, 1.5), (2, round(5 / math.sqrt(2), 6), round(5 / math.sqrt(2), 6))}


def test_without_alpha_rs_lora_is_as_strong_as_the_root_of_the_rank() -> None:
    network = lora.create_network(1.0, 9, 0, None, None, tiny_unet(), rs_lora="1")
    assert {layer.scale for layer in network.layers().values()} == {3.0}
    assert {layer.scale for layer in lora.create_network(1.0, 9, 0, None, None, tiny_unet(), rs_lora="False").layers().values()} == {1.0}


def ranks(patterns: str, **args: str) -> dict[str, tuple[int, float]]:
    network = lora.create_network(1.0, 4, 2.0, None, tiny_text_encoder(), tiny_unet(), network_reg_dims=patterns, **args)
    return {key: (layer.rank, layer.scale * layer.rank) for key, layer in network.layers().items()}


def test_patterns_choose_ranks_by_name_and_the_first_that_meets_counts() -> None:
    chosen = ranks(r"attn2\.to_q=8, .*attn2.*=16, ^text_model.*fc1$=3, down_blocks.*ff=0", conv_dim="5")
    for key, (rank, alpha) in chosen.items():
        expected = 8 if "attn2_to_q" in key else 16 if "attn2" in key else 3 if key.endswith("fc1") else 5 if "resnets" in key else 4
        if expected == 5 and ("shortcut" in key or "time_emb" in key):
            expected = 4  # 1×1, and no convolution
        if "samplers" in key:
            expected = 5
        assert rank == expected, key
        assert alpha == pytest.approx(2.0 if expected != 5 else 1.0)
    assert not any("down_blocks" in key and "_ff_" in key for key in chosen) and any("up_blocks" in key and "_ff_" in key for key in chosen)


def test_rs_lora_takes_the_root_of_the_patterns_rank() -> None:
    assert {alpha for key, (_, alpha) in ranks("attn2=16", rs_lora="True").items() if "attn2" in key} == {8.0}


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ({"network_reg_dims": "attn3=8"}, ("network_reg_dims=attn3=8", "text_model.")),
        ({"network_reg_dims": "resnets=8"}, ("network_reg_dims=resnets=8", "no module")),  # without conv_dim none exists
        ({"network_reg_dims": "attn2"}, ("'attn2'", "pattern=rank")),
        ({"network_reg_dims": "(=8"}, ("network_reg_dims=(=8", "regular expression")),
        ({"network_reg_dims": "attn2=40000"}, ("network_reg_dims=attn2=40000", "from 0")),
        ({"network_reg_dims": "attn2=-1"}, ("network_reg_dims=attn2=-1", "pattern=rank")),
        ({"rs_lora": "maybe"}, ("rs_lora=maybe", "True or False")),
    ],
)
def test_wrong_patterns_are_told_in_one_line(args: dict[str, str], names: tuple[str, ...]) -> None:
    with refused("LORA-008", *names):
        lora.create_network(1.0, 4, 2.0, None, tiny_text_encoder(), tiny_unet(), **args)


def test_a_network_with_nothing_left_is_refused() -> None:
    with refused("LORA-009"):
        lora.create_network(1.0, 4, 2.0, None, None, tiny_unet(), network_reg_dims=".*=0")
