"""What an inpainting model is told beside the noisy latents: the mask, and the latents of the image without what is under it."""

from __future__ import annotations

import torch
from torch import Tensor

from library.options.bounds import PIXELS_OF_A_LATENT


def masked(images: Tensor, masks: Tensor) -> Tensor:
    """Images [B,3,H,W] in −1…1 without what has to be filled in, which becomes 0 (grey): where masks [B,1,H,W] are ½ or more."""
    return images * (masks < 0.5)


def known_region(masks: Tensor, masked_latents: Tensor) -> Tensor:
    """[B,5,h,w] of masks [B,1,H,W] and the U-Net's latents [B,4,h,w] of the masked images, as diffusers' inpainting pipeline joins them.

    A latent has the mask of its first pixel (the nearest one), 1 where it is filled in.
    """
    small = masks[..., ::PIXELS_OF_A_LATENT, ::PIXELS_OF_A_LATENT] >= 0.5
    return torch.cat([small.to(masked_latents), masked_latents], dim=1)
