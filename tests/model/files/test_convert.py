"""Names and architectures against diffusers' own conversion, for the released sizes and for narrow ones; shapes only, no memory."""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders import single_file_utils as oracle

from benchmarks.make_model import SIZES, Size, original_infos
from library.model import configs
from library.model.family import FAMILIES, V2
from library.model.files import convert

# What Stability AI and Runway released beside their weights (unet/config.json, vae/config.json, text_encoder/config.json).
RELEASED_UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
RELEASED = {
    "v1": RELEASED_UNET | {"cross_attention_dim": 768, "attention_head_dim": 8, "use_linear_projection": False},
    "v2": RELEASED_UNET | {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
}
PARAMETERS = {"v1": (859_520_964, 83_653_863, 123_060_480), "v2": (865_910_724, 83_653_863, 340_387_840)}
CASES = {
    "v1 full": ("v1", SIZES["v1", "full"]),
    "v2 full": ("v2", SIZES["v2", "full"]),
    "v1 small": ("v1", SIZES["v1", "small"]),
    "v2 small": ("v2", SIZES["v2", "small"]),
    "v1 three levels": ("v1", Size((32, 64, 96), 3, 64, 1, (32, 64, 64), 2)),
}


def _file(case: str) -> tuple[str, dict[str, torch.Tensor]]:
    version, size = CASES[case]
    return version, {name: torch.empty(info.shape, device="meta") for name, info in original_infos(version, size).items()}


def _ours(state: dict[str, torch.Tensor], part: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, place in convert.places(state).items():
        if place.part == part:
            found.update(convert.live_shapes(place, tuple(state[name].shape)))
    return found


def _shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("case", CASES)
def test_unet_names_are_those_of_diffusers(case):
    version, state = _file(case)
    shapes = _ours(state, "unet")
    config = configs.unet_config(shapes, FAMILIES[version])
    assert shapes == _shapes(oracle.convert_ldm_unet_checkpoint(dict(state), config))


@pytest.mark.parametrize("case", CASES)
def test_vae_names_are_those_of_diffusers(case):
    _, state = _file(case)
    shapes = _ours(state, "vae")
    assert shapes == _shapes(oracle.convert_ldm_vae_checkpoint(dict(state), configs.vae_config(shapes)))


@pytest.mark.parametrize("case", CASES)
def test_text_encoder_names_are_those_of_diffusers(case):
    version, state = _file(case)
    shapes = _ours(state, "text_encoder")
    if version == "v1":
        theirs = _shapes(oracle.convert_ldm_clip_checkpoint(state))
        theirs = {name.removeprefix("text_model."): shape for name, shape in theirs.items() if "position_ids" not in name}
    else:
        model = type("Model", (), {"config": type("Config", (), {})})
        theirs = _shapes(oracle.convert_open_clip_checkpoint(model, state))
        theirs = {name.removeprefix("text_model."): shape for name, shape in theirs.items()}
        unused = f"encoder.layers.{CASES[case][1].text_layers}."  # diffusers leaves out the 24th of the released size only
        theirs = {name: shape for name, shape in theirs.items() if not name.startswith(unused) and "text_projection" not in name}
    assert shapes == theirs


@pytest.mark.parametrize("case", CASES)
def test_names_lead_back_to_where_they_came_from(case):
    version, state = _file(case)
    there = convert.places(state)
    back = {}
    for part in ("unet", "vae", "text_encoder"):
        names = [name for place in there.values() if place.part == part for name in place.names]
        back.update(convert.original_places(part, names, FAMILIES[version]))
    assert back == there


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_released_architectures_are_read_from_shapes(version):
    _, state = _file(f"{version} full")
    assert configs.unet_config(_ours(state, "unet"), FAMILIES[version]) == RELEASED[version]
    vae = configs.vae_config(_ours(state, "vae"))
    assert (vae["block_out_channels"], vae["layers_per_block"], vae["latent_channels"]) == ([128, 256, 512, 512], 2, 4)
    text = configs.text_config(_ours(state, "text_encoder"), FAMILIES[version].text_encoders[0])
    said = (text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"], text["intermediate_size"], text["hidden_act"])
    assert said == {"v1": (768, 12, 12, 3072, "quick_gelu"), "v2": (1024, 23, 16, 4096, "gelu")}[version]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_full_size_files_have_the_released_number_of_parameters(version):
    _, state = _file(f"{version} full")
    counts = [sum(torch.Size(shape).numel() for shape in _ours(state, part).values()) for part in ("unet", "vae", "text_encoder")]
    assert tuple(counts) == PARAMETERS[version]


def test_full_size_files_have_the_released_number_of_tensors():
    assert len(_file("v1 full")[1]) == 686 + 248 + 197 + 12 + 2  # U-Net, VAE, text encoder with position ids, schedule, EMA counters
    assert len(_file("v2 full")[1]) == 686 + 248 + 24 * 12 + 6 + 12 + 2


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_heads_are_eight_in_v1_and_64_wide_in_v2(version, models):
    unet = models[version].unet
    for name, module in unet.named_modules():
        if name.endswith(("attn1", "attn2")):
            width = module.to_q.out_features
            assert module.heads == (8 if version == "v1" else width // 64)
            assert module.scale == pytest.approx((width / module.heads) ** -0.5)


def test_fused_projections_come_apart_as_query_key_value_and_together_again():
    place = convert.places([V2.text_encoders[0].prefix + f"transformer.resblocks.{layer}.attn.in_proj_weight" for layer in range(2)])
    ((name, place),) = place.items()
    fused = torch.arange(6.0)[:, None] * torch.ones(6, 2)
    apart = convert.to_parts(place, fused)
    assert [tensor[:, 0].tolist() for tensor in apart.values()] == [[0, 1], [2, 3], [4, 5]]
    assert [key.rpartition("self_attn.")[2] for key in apart] == ["q_proj.weight", "k_proj.weight", "v_proj.weight"]
    assert convert.to_original(place, apart).equal(fused)
    assert name.endswith("0.attn.in_proj_weight")
