"""The parts of a loaded Stable Diffusion model, and the two things everybody asks of them: latents of images, context of captions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from library.model.files.facts import ModelFacts
from library.model.text.encode import encode_text
from library.model.text.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

TextReader = Callable[..., Tensor]  # (text encoder, input_ids [B,N,77], clip skip, token weights) -> context
SCALE_FACTOR = 0.18215  # latents are multiplied by it, so that their deviation is about 1 (Rombach et al. 2022, app. G)


def moments(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Mean and log variance [B,8,h,w] (float32, unscaled) of the latents of images [B,3,H,W] in −1…1."""
    with torch.no_grad():
        parameters = vae.encode(images.to(vae.dtype)).latent_dist.parameters.float()
    mean, logvar = parameters.chunk(2, dim=1)
    return torch.cat([mean, logvar.clamp(-30.0, 20.0)], dim=1)


@dataclass
class StableDiffusion:
    """A model ready to train or sample; `source` is what it was loaded from, None for one built in memory."""

    version: str  # "v1" or "v2"
    prediction: str  # "epsilon" or "v_prediction"
    tokenizer: ClipTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    source: ModelFacts | None = None
    zero_terminal_snr: bool = False  # trained to start from pure noise, which samplers have to do too
    half_vae: bool = True  # whether the VAE may compute in half precision where the caller does (autocast)
    text_reader: TextReader = encode_text  # another one gives each cross-attention a context of its own (`new_words`)

    @property
    def scale_factor(self) -> float:
        """Latents for the U-Net are the VAE's × this."""
        return SCALE_FACTOR

    def moments(self, images: Tensor) -> Tensor:
        """`moments` of this model's VAE; in float32 whatever autocast says where `half_vae` is False."""
        with contextlib.nullcontext() if self.half_vae else torch.autocast(images.device.type, enabled=False):
            return moments(self.vae, images)

    def encode_text(self, input_ids: Tensor, token_weights: Tensor | None = None, clip_skip: int | None = None) -> Tensor:
        """Token ids [B,N,77] to the context [B, N·75+2, D] that the U-Net reads (`library.model.text.encode.encode_text`)."""
        return self.text_reader(self.text_encoder, input_ids, clip_skip, token_weights)
