"""A family of models that there is not: two text encoders side by side, a pooled embedding, and a U-Net that is told of sizes."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from library.model.bundle import StableDiffusion
from library.model.family import ModelFamily, PartSizes, TextEncoderFacts, UNetFacts
from library.model.files.facts import inspect
from library.model.text.conditioning import Conditioning, TextEncoders
from library.model.text.encode import join_windows
from library.model.text.tokenizer import END, ClipTokenizer

WIDTHS = (32, 48)  # of the two text encoders
SIZE_WIDTH = 8  # channels for each of the six figures of a picture's sizes


def read_both(text_encoders: TextEncoders, input_ids: Tensor, token_weights: Tensor | None, clip_skip: int | None) -> Conditioning:
    """Hidden states beside one another, as many layers from the end as clip skip says (2 if it says nothing), without a final norm."""
    batch, windows, _ = input_ids.shape
    first, second = text_encoders
    ids = input_ids.flatten(0, 1)
    after_end = (ids == END).cumsum(dim=-1) > 1
    one = first(ids, output_hidden_states=True).hidden_states[-(clip_skip or 2)]
    read = second(ids.masked_fill(after_end, 0), output_hidden_states=True)
    both = torch.cat([one, read.hidden_states[-(clip_skip or 2)]], dim=-1)
    return Conditioning(join_windows(both.unflatten(0, (batch, windows))), read.pooler_output.unflatten(0, (batch, windows))[:, 0])


def size_ids(sizes: Tensor) -> Tensor:
    """Height before width and top before left, of the image, the crop and what is shown."""
    return sizes[:, [1, 0, 3, 2, 5, 4]]


def _encoder(prefix: str, width: int, padding: int) -> TextEncoderFacts:
    return TextEncoderFacts(f"{prefix}.model.", "transformers", width, "gelu", padding, f"made_up_{prefix}", f"lora_{prefix}_")


MADE_UP = ModelFamily(
    name="made_up",
    title="made-up model",
    series="Made Up 1.x",
    flag="--made_up",
    text_encoders=(_encoder("left", WIDTHS[0], END), _encoder("right", WIDTHS[1], 0)),
    unet=UNetFacts(context_width=sum(WIDTHS), heads=None, head_width=16, linear_projection=True, lora_prefix="lora_net_"),
    sizes=PartSizes(1, 1, 1, 1, 1, 1, 1),
    takes_clip_skip=True,
    predictions=("v_prediction",),
    base_model="made_up_base",
    architecture="made-up-noise",
    velocity_architecture="made-up-velocity",
    scheduler="DDIMScheduler",
    resolution=64,
    scale_factor=0.25,
    read=read_both,
    size_ids=size_ids,
)


def made_up_model(source: Path) -> StableDiffusion:
    """One of this family with random weights; `source` is the file that it says it comes from."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        norm_num_groups=8,
        layers_per_block=1,
        attention_head_dim=[2, 4],
        use_linear_projection=True,
        cross_attention_dim=sum(WIDTHS),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=SIZE_WIDTH,
        projection_class_embeddings_input_dim=WIDTHS[1] + 6 * SIZE_WIDTH,
    )
    block = {"block_out_channels": (8,) * 4, "norm_num_groups": 4, "layers_per_block": 1}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(latent_channels=4, scaling_factor=MADE_UP.scale_factor, **block, **kinds)
    left, right = (_text_encoder(width) for width in WIDTHS)
    for part in (unet, vae, left, right):
        part.eval()
    return StableDiffusion(
        MADE_UP, "v_prediction", ClipTokenizer(MADE_UP), left, vae, unet, source=inspect(source), further_text_encoders=(right,)
    )


def _text_encoder(width: int) -> nn.Module:
    config = {"num_hidden_layers": 2, "num_attention_heads": 2, "bos_token_id": 49406, "eos_token_id": END}
    return CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=width, intermediate_size=2 * width, **config))
