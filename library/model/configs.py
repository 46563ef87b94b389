"""The architecture of each part, read from the shapes of its tensors, so that a file needs no config."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from library.errors import UserError, coded
from library.model.family import SCALE_FACTOR, ModelFamily, TextEncoderFacts

Shapes = Mapping[str, tuple[int, ...]]
GROUPS = 32  # of every group norm in Stable Diffusion
CLIP_HEAD_WIDTH = 64
HEADS = "a number of heads such as 8"


# Settings that change what a network computes, but not the shapes of its tensors: those of Stable Diffusion.
UNET_SETTINGS: Mapping[str, object] = {
    "act_fn": "silu", "attention_type": "default", "center_input_sample": False, "downsample_padding": 1, "flip_sin_to_cos": True,
    "freq_shift": 0, "mid_block_scale_factor": 1, "norm_eps": 1e-5, "resnet_out_scale_factor": 1,
    "resnet_skip_time_act": False, "resnet_time_scale_shift": "default", "time_embedding_act_fn": None,
    "time_embedding_type": "positional", "timestep_post_act": None,
}  # fmt: skip
VAE_SETTINGS: Mapping[str, object] = {
    "act_fn": "silu", "latents_mean": None, "latents_std": None, "shift_factor": None,
}  # fmt: skip


def check_unet_settings(config: Mapping[str, object], where: str) -> None:
    """Raise UserError, with `where` at the start of its line, for a U-Net's config that computes something else than Stable Diffusion."""
    _check_fixed(config, UNET_SETTINGS, where)
    _check_count(config, "norm_num_groups", "a number of groups such as 32", where)
    heads = config.get("attention_head_dim", 8)
    for count in heads if isinstance(heads, list) else [heads]:
        _check_count({"attention_head_dim": count}, "attention_head_dim", HEADS, where)


def check_vae_settings(config: Mapping[str, object], where: str) -> None:
    """The same for the config of a VAE."""
    _check_fixed(config, VAE_SETTINGS, where)
    _check_count(config, "norm_num_groups", "a number of groups such as 32", where)


def check_text_settings(config: Mapping[str, object], where: str) -> None:
    """The same for the config of a text encoder."""
    _check_count(config, "num_attention_heads", HEADS, where)
    small = config.get("layer_norm_eps", 1e-5)
    if not isinstance(small, int | float) or not 0 < small < 1:
        raise _odd_setting("layer_norm_eps", small, "a small number such as 1e-05", where)


def _check_fixed(config: Mapping[str, object], settings: Mapping[str, object], where: str) -> None:
    for name, value in settings.items():
        if name in config and config[name] != value:
            raise _odd_setting(name, config[name], json.dumps(value), where)


def _check_count(config: Mapping[str, object], name: str, expected: str, where: str) -> None:
    count = config.get(name, 1)
    if type(count) is not int or count < 1:
        raise _odd_setting(name, count, expected, where)


def _odd_setting(name: str, value: object, expected: str, where: str) -> UserError:
    return UserError(
        coded(
            "MODEL-012",
            f"{where}: {name} is {json.dumps(value)}, expected {expected} as in Stable Diffusion; the file is damaged or of another kind "
            "of model, download it again",
        )
    )


def unet_config(shapes: Shapes, family: ModelFamily) -> dict[str, object]:
    """Return the arguments of diffusers' UNet2DConditionModel for tensors of these shapes.

    There `attention_head_dim` means the number of heads (an old mistake that diffusers keeps).
    """
    levels = _count(shapes, r"down_blocks\.(\d+)\.")
    widths = [shapes[f"down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)]
    attention = [f"down_blocks.{level}.attentions.0.norm.weight" in shapes for level in range(levels)]
    context = next(shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight"))
    projection = next(shape for name, shape in shapes.items() if name.endswith("attentions.0.proj_in.weight"))
    _check_widths("U-Net", widths, family.unet.head_width or GROUPS)
    return {
        "sample_size": family.resolution // 8,
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "down_block_types": ["CrossAttnDownBlock2D" if crossed else "DownBlock2D" for crossed in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if crossed else "UpBlock2D" for crossed in reversed(attention)],
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, r"down_blocks\.0\.resnets\.(\d+)\."),
        "cross_attention_dim": context,
        "attention_head_dim": family.unet.heads_of(widths),
        "use_linear_projection": len(projection) == 2,
        "norm_num_groups": GROUPS,
    }


def vae_config(shapes: Shapes) -> dict[str, object]:
    """Return the arguments of diffusers' AutoencoderKL for tensors of these shapes."""
    levels = _count(shapes, r"encoder\.down_blocks\.(\d+)\.")
    widths = [shapes[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"][0] for level in range(levels)]
    _check_widths("VAE", widths, GROUPS)
    return {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": widths,
        "layers_per_block": _count(shapes, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "norm_num_groups": GROUPS,
        "sample_size": 512,
        "scaling_factor": SCALE_FACTOR,
    }


def text_config(shapes: Shapes, encoder: TextEncoderFacts, heads: int | None = None) -> dict[str, object]:
    """Return the arguments of transformers' CLIPTextConfig for tensors of these shapes (names without the `text_model.` level)."""
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    if heads is not None and width % heads:
        raise ValueError(f"{heads} attention heads do not divide its width {width}")
    if heads is None:
        _check_widths("text encoder", [width], CLIP_HEAD_WIDTH)
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "projection_dim": width,
        "num_hidden_layers": _count(shapes, r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": heads or width // CLIP_HEAD_WIDTH,
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "hidden_act": encoder.activation,
        "bos_token_id": 49406,
        "eos_token_id": 49407,  # with transformers' old value 2, pooling would pick added tokens
        "pad_token_id": encoder.padding,
    }


def _count(shapes: Shapes, pattern: str) -> int:
    return 1 + max(int(match[1]) for name in shapes if (match := re.match(pattern, name)) and len(match[1]) < 3)


def _check_widths(part: str, widths: list[int], step: int) -> None:
    if any(width % step for width in widths):
        raise ValueError(f"the {part}'s widths {widths} are not multiples of {step}")
