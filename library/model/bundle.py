"""The parts of a loaded model, and the three things everybody asks of them: latents of images, conditionings, predictions."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from library.model.family import ModelFamily, Prediction
from library.model.files.facts import INPAINTING_CHANNELS, ModelFacts
from library.model.text.conditioning import CaptionReader, Conditioning, whole_picture
from library.model.text.tokenizer import ClipTokenizer

if TYPE_CHECKING:
    # not from `diffusers` itself, where type checkers find stand-ins for a system without torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel


def moments(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Mean and log variance [B,8,h,w] (float32, unscaled) of the latents of images [B,3,H,W] in −1…1."""
    with torch.no_grad():
        parameters = vae.encode(images.to(vae.dtype)).latent_dist.parameters.float()
    mean, logvar = parameters.chunk(2, dim=1)
    return torch.cat([mean, logvar.clamp(-30.0, 20.0)], dim=1)


@dataclass
class StableDiffusion:
    """A model ready to train or sample; `source` is what it was loaded from, None for one built in memory."""

    family: ModelFamily
    prediction: Prediction
    tokenizer: ClipTokenizer
    text_encoder: CLIPTextModel  # the first one
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    source: ModelFacts | None = None
    zero_terminal_snr: bool = False  # trained to start from pure noise, which samplers have to do too
    unet_autocast: bool = True  # False: the U-Net, kept in half precision, and what is put onto it compute in its dtype without autocast
    unet_replays: bool = False  # each result of the U-Net without gradients is overwritten by its next one (CUDA graphs)
    unet_layout: torch.memory_format = torch.contiguous_format  # of the images that the U-Net takes
    half_vae: bool = True  # whether the VAE may compute in half precision where the caller does (autocast)
    further_text_encoders: tuple[CLIPTextModel, ...] = ()
    reader: CaptionReader | None = None  # another one than the family's gives each cross-attention a context of its own (`new_words`)

    @property
    def text_encoders(self) -> tuple[CLIPTextModel, ...]:
        """All of them, in the family's order."""
        return (self.text_encoder, *self.further_text_encoders)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks by their folders in the Diffusers form: unet, vae, text_encoder, and text_encoder_2, … where there are several."""
        return {"unet": self.unet, "vae": self.vae, **dict(zip(self.family.text_parts, self.text_encoders, strict=True))}

    @property
    def inpaints(self) -> bool:
        """Whether the U-Net is told what of the picture is known, and fills in the rest."""
        return bool(self.unet.config.in_channels == INPAINTING_CHANNELS)

    @property
    def scale_factor(self) -> float:
        """Latents for the U-Net are the VAE's × this."""
        return self.family.scale_factor

    def moments(self, images: Tensor) -> Tensor:
        """`moments` of this model's VAE; in float32 whatever autocast says where `half_vae` is False."""
        with contextlib.nullcontext() if self.half_vae else torch.autocast(images.device.type, enabled=False):
            return moments(self.vae, images)

    def encode(self, input_ids: Tensor, token_weights: Tensor | None = None, clip_skip: int | None = None) -> Conditioning:
        """Token ids [B,N,77] and weights to what captions tell the U-Net: a context [B, N·75+2, D] and what else the family has."""
        read = self.reader or self.family.read
        return read(self.text_encoders, input_ids, token_weights, clip_skip)

    def with_sizes(self, conditioning: Conditioning, shown: tuple[int, int], sizes: Tensor | None = None) -> Conditioning:
        """`conditioning` with the sizes of B pictures, where the family's U-Net is told of them.

        `sizes` [B,6] are those of `Batch`; None: all are whole pictures of the size `shown` (width, height).
        """
        if self.family.size_ids is None:
            return conditioning
        if sizes is None:
            sizes = whole_picture(*shown, len(conditioning), conditioning.context.device)
        return replace(conditioning, size_ids=self.family.size_ids(sizes))

    def predict(self, noisy: Tensor, timesteps: Tensor | int, conditioning: Conditioning) -> Tensor:
        """Noise or velocity [B,4,h,w] in noisy latents [B,4,h,w] at timesteps [B] or one for all.

        An inpainting model's U-Net takes what is known of the picture as further channels behind the latents.

        Under autocast the U-Net takes float32; one kept in half precision without autocast needs its own dtype. Where it is frozen in
        half precision, autocast would only widen what its norms give (`unet_autocast`).
        """
        dtype = self.unet.dtype
        if conditioning.known is not None:
            noisy = torch.cat([noisy, conditioning.known.to(noisy)], dim=1)
        further = {} if conditioning.pooled is None else {"text_embeds": conditioning.pooled.to(dtype)}
        if conditioning.size_ids is not None:
            further["time_ids"] = conditioning.size_ids  # pixels: more than half precision counts
        noisy, context = noisy.to(dtype, memory_format=self.unet_layout), conditioning.context.to(dtype)
        timesteps = torch.as_tensor(timesteps, device=noisy.device).expand(len(noisy))  # always the same kind: one compiled graph
        given = {"added_cond_kwargs": further} if further else {}
        bare = not self.unet_autocast and dtype.itemsize == 2
        with torch.autocast(noisy.device.type, enabled=False) if bare else contextlib.nullcontext():
            predicted: Tensor = self.unet(noisy, timesteps, context, **given).sample
        return predicted.clone() if self.unet_replays and not torch.is_grad_enabled() else predicted
