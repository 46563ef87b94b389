"""The names of tensors in original-layout files and in diffusers and transformers: tables, hardly any code.

Rows are (original, ours). `{…}` is a level or layer; convert.py fills them in and uses them in both directions.
"""

from __future__ import annotations

UNET = "model.diffusion_model."  # prefix of the U-Net's names, as a family's text encoders have one
VAE = "first_stage_model."
TEXT_LEVEL = "text_model."  # transformers had this level until 5.5; most files still have it, some never did
CLIP_BESIDE_TEXT = frozenset({"logit_scale", "text_projection", "visual_projection", "vision_model"})  # in folders that keep all of CLIP
_STAGE, _CONDITIONER = "cond_stage_model.", "conditioner.embedders.0."  # the newer layout's name of the same place: SD 2.1-Turbo

UNET_ENDS = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("middle_block.1", "mid_block.attentions.0"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
UNET_MIDDLE_RESNETS = (("middle_block.0", "mid_block.resnets.0"), ("middle_block.2", "mid_block.resnets.1"))
UNET_RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)

VAE_ENDS = (
    ("encoder.conv_in", "encoder.conv_in"),
    ("encoder.norm_out", "encoder.conv_norm_out"),
    ("encoder.conv_out", "encoder.conv_out"),
    ("decoder.conv_in", "decoder.conv_in"),
    ("decoder.norm_out", "decoder.conv_norm_out"),
    ("decoder.conv_out", "decoder.conv_out"),
    ("quant_conv", "quant_conv"),
    ("post_quant_conv", "post_quant_conv"),
)
VAE_MIDDLE_RESNETS = (("{side}.mid.block_1", "{side}.mid_block.resnets.0"), ("{side}.mid.block_2", "{side}.mid_block.resnets.1"))
VAE_RESNET = (("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"), ("nin_shortcut", "conv_shortcut"))
VAE_ATTENTION = (
    ("{side}.mid.attn_1.norm", "{side}.mid_block.attentions.0.group_norm"),
    ("{side}.mid.attn_1.q", "{side}.mid_block.attentions.0.to_q"),
    ("{side}.mid.attn_1.k", "{side}.mid_block.attentions.0.to_k"),
    ("{side}.mid.attn_1.v", "{side}.mid_block.attentions.0.to_v"),
    ("{side}.mid.attn_1.proj_out", "{side}.mid_block.attentions.0.to_out.0"),
)
VAE_OLD_DIFFUSERS = (  # Diffusers folders of 2022
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
)

OPEN_CLIP_ENDS = (
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("token_embedding", "embeddings.token_embedding"),
    ("ln_final", "final_layer_norm"),
)
OPEN_CLIP_LAYER = (
    ("transformer.resblocks.{layer}.ln_1", "encoder.layers.{layer}.layer_norm1"),
    ("transformer.resblocks.{layer}.ln_2", "encoder.layers.{layer}.layer_norm2"),
    ("transformer.resblocks.{layer}.mlp.c_fc", "encoder.layers.{layer}.mlp.fc1"),
    ("transformer.resblocks.{layer}.mlp.c_proj", "encoder.layers.{layer}.mlp.fc2"),
    ("transformer.resblocks.{layer}.attn.out_proj", "encoder.layers.{layer}.self_attn.out_proj"),
)
OPEN_CLIP_FUSED = (  # one tensor in the original, three here, stacked along the first axis
    ("transformer.resblocks.{layer}.attn.in_proj_weight", "encoder.layers.{layer}.self_attn.{one}_proj.weight"),
    ("transformer.resblocks.{layer}.attn.in_proj_bias", "encoder.layers.{layer}.self_attn.{one}_proj.bias"),
)


def classic_name(name: str) -> str:
    """Return the usual name of a tensor in files of Stable Diffusion 1 and 2: the layout of SDXL's code names the text encoder
    differently."""
    return _STAGE + name[len(_CONDITIONER) :] if name.startswith(_CONDITIONER) else name
