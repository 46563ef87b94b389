"""LoRA files and names against the programs that read them: Diffusers with PEFT, and the module lists that the ecosystem knows."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file

from networks.lora import create_network, create_network_from_weights
from tests.networks.models import full_size, randomize, run_text_encoder, run_unet, tiny_text_encoder, tiny_unet


def _pipeline(text_encoder, unet) -> StableDiffusionPipeline:
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    scheduler = DDIMScheduler(steps_offset=1, clip_sample=False)
    parts = {"tokenizer": None, "scheduler": scheduler, "safety_checker": None, "feature_extractor": None}
    return StableDiffusionPipeline(vae=vae, text_encoder=text_encoder, unet=unet, requires_safety_checker=False, **parts)


@pytest.mark.parametrize("args", [{}, {"conv_dim": "3", "conv_alpha": "2"}], ids=["linear", "with convolutions"])
def test_diffusers_loads_our_file_to_the_same_outputs(tmp_path, args):
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    network = create_network(1.0, 4, 2.0, None, text_encoder, unet, **args)
    randomize(network)
    before = run_unet(unet), run_text_encoder(text_encoder)
    network.apply_to(text_encoder, unet)
    ours = run_unet(unet), run_text_encoder(text_encoder)
    network.save_weights(tmp_path / "lora.safetensors", None, None)
    pipeline = _pipeline(tiny_text_encoder(), tiny_unet())
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    theirs = run_unet(pipeline.unet), run_text_encoder(pipeline.text_encoder)
    for base, mine, other in zip(before, ours, theirs, strict=True):
        assert (base - mine).abs().max() > 0.1
        torch.testing.assert_close(mine, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("version", "text_modules", "width"), [("v1", 72, 768), ("v2", 138, 1024)])
def test_full_size_models_get_exactly_the_modules_of_the_ecosystem(version, text_modules, width):
    text_encoder, unet = full_size(version)
    keys = create_network(1.0, 4, 1, None, text_encoder, unet).state_dict()
    names = {key.partition(".")[0] for key in keys}
    assert sum(name.startswith("lora_unet_") for name in names) == 192
    assert sum(name.startswith("lora_te_") for name in names) == text_modules
    assert len(keys) == 3 * (192 + text_modules)
    assert names == _expected_names(layers=text_modules // 6)
    assert keys["lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight"].shape == (4, width)
    projection = keys["lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"]
    assert projection.shape == ((1280, 4, 1, 1) if version == "v1" else (1280, 4))


def _expected_names(layers: int) -> set[str]:
    """Spelled out by hand from the U-Net's plan: 16 transformers of 12 modules."""
    places = [f"down_blocks_{block}_attentions_{layer}" for block in range(3) for layer in range(2)] + ["mid_block_attentions_0"]
    places += [f"up_blocks_{block}_attentions_{layer}" for block in (1, 2, 3) for layer in range(3)]
    attention = [f"attn{kind}_{part}" for kind in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out_0")]
    inner = [f"transformer_blocks_0_{name}" for name in (*attention, "ff_net_0_proj", "ff_net_2")]
    unet = {f"lora_unet_{place}_{name}" for place in places for name in ("proj_in", "proj_out", *inner)}
    parts = [*(f"self_attn_{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")), "mlp_fc1", "mlp_fc2"]
    return unet | {f"lora_te_text_model_encoder_layers_{layer}_{part}" for layer in range(layers) for part in parts}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_conv_dim_adds_the_86_modules_of_resnets_and_samplers(version):
    _, unet = full_size(version)
    network = create_network(1.0, 4, 1, None, None, unet, conv_dim="2")
    added = set(network.layers()) - set(create_network(1.0, 4, 1, None, None, unet).layers())
    # 22 resnets with two convolutions and a time projection, 14 of them with a 1×1 shortcut, 3 + 3 samplers.
    assert len(network.layers()) == 278 and len(added) == 22 * 3 + 14 + 6
    assert network.layers()["lora_unet_down_blocks_0_resnets_0_conv1"].rank == 2
    assert network.layers()["lora_unet_down_blocks_0_resnets_0_time_emb_proj"].rank == 4
    assert network.layers()["lora_unet_down_blocks_1_resnets_0_conv_shortcut"].rank == 4
    assert network.layers()["lora_unet_up_blocks_2_upsamplers_0_conv"].rank == 2


def test_text_encoder_of_either_transformers_generation_has_the_same_keys():
    text_encoder = tiny_text_encoder()

    class OlderLayout(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.text_model = text_encoder

    keys = create_network(1.0, 4, 1, None, text_encoder, None).state_dict().keys()
    assert create_network(1.0, 4, 1, None, OlderLayout(), None).state_dict().keys() == keys


def test_saved_file_comes_back_bit_for_bit(tmp_path):
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    network = create_network(1.0, 4, 2.0, None, text_encoder, unet, conv_dim="2", conv_alpha="1")
    randomize(network)
    for name in ("a.safetensors", "a.pt", "a.ckpt"):
        network.save_weights(tmp_path / name, None, {"ss_network_dim": "4"})
        loaded, weights = create_network_from_weights(1.0, tmp_path / name, None, text_encoder, unet)
        assert weights.keys() == network.state_dict().keys() == loaded.state_dict().keys()
        assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())
        assert {layer.scale for layer in loaded.layers().values()} == {0.5}


def test_fp16_file_is_half_as_large_and_loads_as_rounded(tmp_path):
    unet = tiny_unet()
    network = create_network(1.0, 4, 2.0, None, None, unet)
    randomize(network)
    network.save_weights(tmp_path / "half.safetensors", torch.float16, None)
    saved = load_file(tmp_path / "half.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float16}
    loaded, _ = create_network_from_weights(1.0, tmp_path / "half.safetensors", None, None, unet)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value.half().float())
