"""A batch as the loader passes it to the training step: images of one share as tensors, with captions, seeds and weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from library.options.bounds import PIXELS_OF_A_LATENT

_TENSORS = ("images", "latents", "input_ids", "token_weights", "loss_weights", "masks", "sizes", "fill_masks", "known")


@dataclass(frozen=True)
class Batch:
    """B images of one size. Either `images` or, with cached latents, `latents` is set; an inpainting model with cached latents has both."""

    images: Tensor | None  # float32 [B,3,H,W] in −1..1
    latents: Tensor | None  # float32 [B,4,H/8,W/8], unscaled
    input_ids: Tensor  # int64 [B,N,77]
    token_weights: Tensor | None  # float32 [B,N,77]
    loss_weights: Tensor  # float32 [B]
    seeds: Tensor  # int64 [B]
    captions: tuple[str, ...]  # as trained
    paths: tuple[str, ...]
    records: tuple[int, ...]  # indices into FilledData.records
    masks: Tensor | None = None  # float32 [B,1,H/8,W/8] in 0..1: where the loss counts; None: everywhere
    sizes: Tensor | None = None  # int64 [B,6], pixels: width, height, left and top of the crop, width and height shown; None: unknown
    strata: Tensor | None = None  # int64 [B,2]: (index among the images of its update, number of these images); None: unknown
    whole_weight: float | None = None  # weight the sampler assigned to the whole batch, counted as one image; None: it knows the images
    network_multiplier: float = 1.0  # strength of the trained network for these images
    fill_masks: Tensor | None = None  # uint8 [B,1,H,W], 1 where an inpainting model fills in; None: random, from the seeds
    known: Tensor | None = None  # float32 [B,5,h,w], mask and masked image for an inpainting model if already computed
    prior: Tensor | None = None  # bool [B], on the CPU: the target is the base model's prediction; None: for no image
    unreadable: tuple[str, ...] = ()  # one line per unreadable image; each was replaced by another image

    def __len__(self) -> int:
        return len(self.records)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        pictures, pixels = (self.images, 1) if self.images is not None else (self.latents, PIXELS_OF_A_LATENT)
        assert pictures is not None
        return pictures.shape[-1] * pixels, pictures.shape[-2] * pixels

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with images, latents, ids, weights and sizes on `device`.

        `seeds`, `strata` and `prior` stay on the CPU, where all random numbers are generated.
        """
        moved = {name: value.to(device, non_blocking=True) for name in _TENSORS if (value := getattr(self, name)) is not None}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, which a GPU copies faster."""
        pinned = {name: value.pin_memory() for name in _TENSORS if (value := getattr(self, name)) is not None}
        return replace(self, **pinned)
