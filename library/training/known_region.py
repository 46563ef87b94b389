"""What an inpainting model gets besides the noisy latents: each image's mask, and the latents of the image without the masked area."""

from __future__ import annotations

import torch
from torch import Tensor

from library.data.loading.batch import Batch
from library.data.pixels.fill_masks import drawn_masks
from library.data.pixels.latent_cache import draw_latents
from library.model.bundle import StableDiffusion
from library.model.inpainting import known_region, masked
from library.seeds import fold


def known_of(model: StableDiffusion, batch: Batch) -> Tensor | None:
    """Return float32 [B,5,h,w] on the batch's device, a function of its images and seeds; None for a model that does not inpaint.

    Needs the VAE, which encodes the masked images like whole ones, with separate random numbers.
    """
    if not model.inpaints:
        return None
    if batch.known is not None:
        return batch.known
    images = batch.images
    assert images is not None, "a batch for an inpainting model has images, even with latents"
    seeds = batch.seeds.tolist()
    masks = torch.from_numpy(drawn_masks(seeds, batch.size)).to(images.device) if batch.fill_masks is None else batch.fill_masks
    own = torch.tensor([fold(seed, "masked image") for seed in seeds], dtype=torch.int64)
    latents = draw_latents(model.moments(masked(images, masks)), own).float() * model.scale_factor
    return known_region(masks, latents)
