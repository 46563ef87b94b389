"""The architecture of each part, read from the shapes of its tensors, so that a file needs no config."""

from __future__ import annotations

import re
from collections.abc import Mapping

from library.errors import UserError, coded
from library.model.family import SCALE_FACTOR, ModelFamily, TextEncoderFacts

Shapes = Mapping[str, tuple[int, ...]]
GROUPS = 32  # of every group norm in Stable Diffusion
CLIP_HEAD_WIDTH = 64


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
        raise UserError(coded("MODEL-012", f"--pretrained_model_name_or_path: the {part}'s widths {widths} are not multiples of {step}"))
