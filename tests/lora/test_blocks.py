"""The 25 blocks, `--network_args` and what they do to sizes, learning rates and errors."""

from __future__ import annotations

import math

import pytest

from library.errors import UserError
from library.lora.blocks import PRESETS, block_index, block_label, parse_side_weights
from library.lora.settings import KEYS
from networks.lora import create_network
from tests.messages import message, refused
from tests.networks.models import full_size


@pytest.fixture(scope="module")
def unet():
    return full_size("v1")[1]


def _original_block(path: str) -> int:
    """Counted independently: walk the original U-Net's input and output lists in order and note which Diffusers parts they contain."""
    table = {"down_blocks.0.resnets.0": 1}
    place = 0
    for block in range(4):
        for layer in range(2):
            place += 1
            table[f"down_blocks.{block}.resnets.{layer}"] = table[f"down_blocks.{block}.attentions.{layer}"] = place
        if block < 3:
            place += 1
            table[f"down_blocks.{block}.downsamplers.0"] = place
    assert place == 11
    place += 1
    for part in ("resnets.0", "attentions.0", "resnets.1"):
        table[f"mid_block.{part}"] = place
    for block in range(4):
        for layer in range(3):
            place += 1
            table[f"up_blocks.{block}.resnets.{layer}"] = table[f"up_blocks.{block}.attentions.{layer}"] = place
        table[f"up_blocks.{block}.upsamplers.0"] = place
    return table[next(key for key in sorted(table, key=len, reverse=True) if path.startswith(key + "."))]


def test_every_module_is_in_the_block_of_the_original_unet(unet):
    network = create_network(1.0, 4, 1, None, None, unet, conv_dim="4")
    assert len(network.layers()) == 278
    for path in map(network._paths.__getitem__, network.layers()):
        assert block_index(path) == _original_block(path), path


def test_attention_blocks_are_the_sixteen_that_users_know(unet):
    network = create_network(1.0, 4, 1, None, None, unet)
    labels = {block_label(block_index(network._paths[key])) for key in network.layers()}
    known = "IN01 IN02 IN04 IN05 IN07 IN08 MID OUT03 OUT04 OUT05 OUT06 OUT07 OUT08 OUT09 OUT10 OUT11"
    assert labels == set(known.split())


def test_a_module_outside_the_blocks_is_refused():
    with pytest.raises(ValueError, match="time_embedding"):
        block_index("time_embedding.linear_1")


def test_presets_run_over_twelve_blocks_as_their_names_say():
    assert PRESETS["linear"] == pytest.approx([place / 11 for place in range(12)])
    assert PRESETS["sine"][5] == pytest.approx(math.sin(math.radians(90 * 5 / 11)))
    assert (PRESETS["cosine"][0], PRESETS["cosine"][11]) == pytest.approx((1, 0))
    assert PRESETS["cosine"][3] == pytest.approx(math.cos(math.radians(90 * 3 / 11)))
    assert PRESETS["reverse_linear"] == PRESETS["linear"][::-1] and PRESETS["zeros"] == [0] * 12
    assert parse_side_weights("cosine+.25")[0] == 1.25 and parse_side_weights(" zeros + 0.5 ") == [0.5] * 12


def test_block_rates_make_one_group_a_block_and_leave_zero_blocks_out(unet):
    ones = ",".join(["1"] * 12)
    network = create_network(1.0, 4, 1, None, None, unet, down_lr_weight="0,0,0,0,0.5,1,1,1,1,1,1,1", mid_lr_weight="2", up_lr_weight=ones)
    groups = {group["name"]: group for group in network.prepare_optimizer_params(None, 1e-4, None)}
    assert list(groups)[:5] == ["unet_IN04", "unet_IN05", "unet_IN07", "unet_IN08", "unet_MID"] and len(groups) == 14
    assert groups["unet_IN04"]["lr"] == pytest.approx(5e-5) and groups["unet_MID"]["lr"] == pytest.approx(2e-4)
    assert not any("down_blocks_0" in key for key in network.layers()) and len(network.layers()) == 192 - 24
    with refused("OPT-009", "--unet_lr"):
        network.prepare_optimizer_params(None, None, None)


def test_sides_left_out_count_as_one(unet):
    network = create_network(1.0, 4, 1, None, None, unet, mid_lr_weight="0.25")
    rates = {group["name"]: group["lr"] for group in network.prepare_optimizer_params(None, 1.0, None)}
    assert rates.pop("unet_MID") == 0.25 and set(rates.values()) == {1.0}


def test_blocks_at_or_below_the_threshold_are_not_built(unet):
    network = create_network(1.0, 4, 1, None, None, unet, up_lr_weight="linear", block_lr_zero_threshold=str(5 / 11))
    built = {block_label(block_index(network._paths[key])) for key in network.layers()}
    assert {label for label in built if label.startswith("OUT")} == {f"OUT{block:02d}" for block in range(6, 12)}
    assert "MID" in built and "IN01" in built


def test_block_sizes_apply_to_their_blocks_and_zero_builds_none(unet):
    dims = ",".join(str(block) for block in range(25))
    conv_dims = ",".join(["0"] * 13 + ["3"] * 12)
    network = create_network(1.0, 4, 2.0, None, None, unet, block_dims=dims, conv_block_dims=conv_dims, conv_alpha="6")
    layers = network.layers()
    assert layers["lora_unet_down_blocks_0_attentions_1_proj_in"].rank == 2
    assert layers["lora_unet_down_blocks_0_attentions_1_proj_in"].scale == 1.0  # alpha left out is --network_alpha's
    assert layers["lora_unet_mid_block_attentions_0_proj_in"].rank == 12
    assert layers["lora_unet_up_blocks_3_attentions_2_proj_in"].rank == 24
    assert layers["lora_unet_up_blocks_0_upsamplers_0_conv"].rank == 3 and layers["lora_unet_up_blocks_0_upsamplers_0_conv"].scale == 2.0
    assert not any("down_blocks" in key and key.endswith(("conv1", "conv2")) for key in layers)
    alphas = ",".join(["0"] * 12 + ["6"] * 13)
    layers = create_network(1.0, 4, 2.0, None, None, unet, block_dims=dims, block_alphas=alphas).layers()
    assert layers["lora_unet_down_blocks_0_attentions_1_proj_in"].scale == 1.0  # alpha 0 is the rank
    assert layers["lora_unet_mid_block_attentions_0_proj_in"].scale == 0.5


def test_text_encoder_keeps_the_plain_rank(unet):
    text_encoder = full_size("v1")[0]
    network = create_network(1.0, 4, 1, None, text_encoder, unet, block_dims=",".join(["2"] * 25))
    assert {layer.rank for layer in network.layers("lora_te_").values()} == {4}
    assert {layer.rank for layer in network.layers("lora_unet_").values()} == {2}


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ({"conv_dims": "4"}, ("LORA-007", "conv_dims", "conv_dim?")),
        ({"frobnicate": "1"}, ("LORA-007", "frobnicate", "conv_dim")),
        ({"conv_dim": "four"}, ("LORA-008", "conv_dim=four", "number")),
        ({"conv_dim": "2.5"}, ("LORA-008", "conv_dim=2.5", "whole number")),
        ({"conv_alpha": "2"}, ("LORA-007", "conv_alpha", "conv_dim")),
        ({"block_dims": "1,2,3"}, ("LORA-008", "block_dims=1,2,3", "25 numbers", 3)),
        ({"block_alphas": ",".join(["1"] * 24 + ["-1"])}, ("LORA-008", "block_alphas=", "from 0 to")),
        ({"rank_dropout": "1.5"}, ("LORA-008", "rank_dropout=1.5", "probability")),
        ({"module_dropout": "nan"}, ("LORA-008", "module_dropout=nan", "finite")),
        ({"neuron_dropout": 1.0}, ("LORA-008", "--network_dropout 1.0")),
        ({"down_lr_weight": "sin"}, ("LORA-008", "down_lr_weight=sin", "'sin'", "sine, cosine")),
        ({"up_lr_weight": "cosine+x"}, ("LORA-008", "up_lr_weight=cosine+x", "'x'", "number")),
        ({"mid_lr_weight": "1,2"}, ("LORA-008", "mid_lr_weight=1,2", "one number")),
        ({"down_lr_weight": "zeros", "mid_lr_weight": "0", "up_lr_weight": "zeros"}, ("LORA-009",)),
    ],
)
def test_wrong_arguments_are_told_in_one_line(unet, args, asked):
    with refused(*asked) as error:
        create_network(1.0, 4, 1, None, None, unet, **args)
    assert all("\n" not in problem for problem in error.value.problems)


def test_all_faults_come_at_once(unet):
    with pytest.raises(UserError) as caught:
        create_network(1.0, 0, -1, None, None, unet, conv_dims="4", rank_dropout="x")
    assert len(caught.value.problems) == 4


def test_a_list_of_another_length_is_accepted_and_told(unet, heard):
    network = create_network(1.0, 4, 1, None, None, unet, down_lr_weight="0.5,0.5", up_lr_weight=",".join(["2"] * 14))
    rates = {group["name"]: group["lr"] for group in network.prepare_optimizer_params(None, 1.0, None)}
    assert rates["unet_IN01"] == 0.5 and rates["unet_IN02"] == 1.0 and rates["unet_OUT11"] == 2.0
    message(heard.lines, "down_lr_weight", "12 weights", "not 2")
    message(heard.lines, "up_lr_weight", "12 weights", "not 14")


def test_a_threshold_without_weights_is_told(unet, heard):
    create_network(1.0, 4, 1, None, None, unet, block_lr_zero_threshold="0.1", mid_lr_weight="1")
    assert "block_lr_zero_threshold" not in heard.text
    create_network(1.0, 4, 1, None, None, unet, block_lr_zero_threshold="0.1")
    message(heard.lines, "block_lr_zero_threshold", "down_lr_weight")


def test_known_arguments_are_those_of_the_ecosystem():
    assert set(KEYS) == {
        *("conv_dim", "conv_alpha", "block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"),
        *("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold"),
        *("dropout", "rank_dropout", "module_dropout"),
        *("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio"),
        *("network_reg_dims", "rs_lora"),  # newer sd-scripts; LyCORIS
    }
