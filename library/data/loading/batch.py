"""What the loader hands to the training step: the images of one share as tensors, with their texts, seeds and weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from library.options.bounds import PIXELS_OF_A_LATENT

_TENSORS = ("images", "latents", "input_ids", "token_weights", "loss_weights", "masks", "sizes", "fill_masks", "known")


@dataclass(frozen=True)
class Batch:
    """B images of one size. Either `images` or, with cached latents, `latents` is set; both for an inpainting model with cached latents."""

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
    strata: Tensor | None = None  # int64 [B,2]: the image's place among those of its update, and their number; None: unknown
    whole_weight: float | None = None  # that the sampler gave a batch which it took for one image; None: it knows the images
    network_multiplier: float = 1.0  # strength of the trained network for these images
    fill_masks: Tensor | None = None  # uint8 [B,1,H,W], 1 where an inpainting model fills in; None: drawn from the seeds
    known: Tensor | None = None  # float32 [B,5,h,w], what such a model is told, where it was worked out before
    prior: Tensor | None = None  # bool [B], on the CPU: whose target is the base model's prediction; None: nobody's
    unreadable: tuple[str, ...] = ()  # a line for each image that could not be read, in whose place another one is shown

    def __len__(self) -> int:
        return len(self.records)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        pictures, pixels = (self.images, 1) if self.images is not None else (self.latents, PIXELS_OF_A_LATENT)
        assert pictures is not None
        return pictures.shape[-1] * pixels, pictures.shape[-2] * pixels

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with images, latents, ids, weights and sizes on `device`; `seeds`, `strata` and `prior` stay on the CPU,
        where all draws are made."""
        moved = {name: value.to(device, non_blocking=True) for name in _TENSORS if (value := getattr(self, name)) is not None}
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies faster."""
        pinned = {name: value.pin_memory() for name in _TENSORS if (value := getattr(self, name)) is not None}
        return replace(self, **pinned)
