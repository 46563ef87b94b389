"""The parts of a loaded model, and what everything needs of them: latents of images, conditionings, predictions."""

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
    # not from `diffusers` itself, where type checkers see placeholders for a system without torch
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
    """A model that is ready to train or sample; `source` is the file or folder it was loaded from, None if built in memory."""

    family: ModelFamily
    prediction: Prediction
    tokenizer: ClipTokenizer
    text_encoder: CLIPTextModel  # the first one
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    source: ModelFacts | None = None
    zero_terminal_snr: bool = False  # trained to start from pure noise, so samplers must start there too
    unet_autocast: bool = True  # False: a half-precision U-Net and the networks on it compute in their own dtype, without autocast
    unet_replays: bool = False  # each U-Net result without gradients overwrites the one before (CUDA graphs)
    unet_layout: torch.memory_format = torch.contiguous_format  # of the U-Net's input
    half_vae: bool = True  # whether the VAE may compute in half precision if the caller does (autocast)
    further_text_encoders: tuple[CLIPTextModel, ...] = ()
    reader: CaptionReader | None = None  # replaces the family's, and gives each cross-attention a separate context (`new_words`)

    @property
    def text_encoders(self) -> tuple[CLIPTextModel, ...]:
        """All text encoders, in the family's order."""
        return (self.text_encoder, *self.further_text_encoders)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The networks by their folder names in Diffusers: unet, vae, text_encoder, and text_encoder_2, … if there are several."""
        return {"unet": self.unet, "vae": self.vae, **dict(zip(self.family.text_parts, self.text_encoders, strict=True))}

    @property
    def inpaints(self) -> bool:
        """Whether the U-Net gets the known part of the image as input and fills in the rest."""
        return bool(self.unet.config.in_channels == INPAINTING_CHANNELS)

    @property
    def scale_factor(self) -> float:
        """The factor from the VAE's latents to the U-Net's."""
        return self.family.scale_factor

    def moments(self, images: Tensor) -> Tensor:
        """`moments` of this model's VAE; always in float32 if `half_vae` is False, even under autocast."""
        with contextlib.nullcontext() if self.half_vae else torch.autocast(images.device.type, enabled=False):
            return moments(self.vae, images)

    def encode(self, input_ids: Tensor, token_weights: Tensor | None = None, clip_skip: int | None = None) -> Conditioning:
        """Encode token ids [B,N,77] and weights to a conditioning: a context [B, N·75+2, D] and what else the family needs."""
        read = self.reader or self.family.read
        return read(self.text_encoders, input_ids, token_weights, clip_skip)

    def with_sizes(self, conditioning: Conditioning, shown: tuple[int, int], sizes: Tensor | None = None) -> Conditioning:
        """Add the sizes of B images to `conditioning`, if the family's U-Net takes them.

        `sizes` [B,6] are those of `Batch`; None: uncropped images of the size `shown` (width, height).
        """
        if self.family.size_ids is None:
            return conditioning
        if sizes is None:
            sizes = whole_picture(*shown, len(conditioning), conditioning.context.device)
        return replace(conditioning, size_ids=self.family.size_ids(sizes))

    def predict(self, noisy: Tensor, timesteps: Tensor | int, conditioning: Conditioning) -> Tensor:
        """Predict noise or velocity [B,4,h,w] from noisy latents [B,4,h,w] at timesteps [B], or one for all.

        The U-Net of an inpainting model takes the known region as additional channels after the latents.

        Under autocast the U-Net takes float32; in half precision without autocast it needs its own dtype. For a frozen half-precision
        U-Net, autocast would only widen the output of its norms (`unet_autocast`).
        """
        dtype = self.unet.dtype
        if conditioning.known is not None:
            noisy = torch.cat([noisy, conditioning.known.to(noisy)], dim=1)
        conditions = {} if conditioning.pooled is None else {"text_embeds": conditioning.pooled.to(dtype)}
        if conditioning.size_ids is not None:
            conditions["time_ids"] = conditioning.size_ids  # sizes in pixels need more than half precision
        noisy, context = noisy.to(dtype, memory_format=self.unet_layout), conditioning.context.to(dtype)
        timesteps = torch.as_tensor(timesteps, device=noisy.device).expand(len(noisy))  # always the same kind of input: one compiled graph
        arguments = {"added_cond_kwargs": conditions} if conditions else {}
        bare = not self.unet_autocast and dtype.itemsize == 2
        with torch.autocast(noisy.device.type, enabled=False) if bare else contextlib.nullcontext():
            predicted: Tensor = self.unet(noisy, timesteps, context, **arguments).sample
        return predicted.clone() if self.unet_replays and not torch.is_grad_enabled() else predicted
