"""The additional input of an inpainting model: the mask, and the latents of the image without the masked region."""

from __future__ import annotations

import torch
from torch import Tensor

from library.options.bounds import PIXELS_OF_A_LATENT


def masked(images: Tensor, masks: Tensor) -> Tensor:
    """Set the region to fill in, where masks [B,1,H,W] are ½ or more, to 0 (grey) in images [B,3,H,W] in −1…1."""
    return images * (masks < 0.5)


def known_region(masks: Tensor, masked_latents: Tensor) -> Tensor:
    """Join masks [B,1,H,W] and the U-Net's latents [B,4,h,w] of the masked images to [B,5,h,w], as diffusers' inpainting pipeline does.

    A latent takes the mask of its first pixel (nearest neighbour); 1 means filled in.
    """
    small = masks[..., ::PIXELS_OF_A_LATENT, ::PIXELS_OF_A_LATENT] >= 0.5
    return torch.cat([small.to(masked_latents), masked_latents], dim=1)
