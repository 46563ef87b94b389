"""Loads a share of requests into a Batch: images or latents, captions, token ids, weights. The result does not depend on the worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from library.caption_rewriting import RewriteCaption, keep_caption
from library.data.batching.buckets import FilledData, Placement
from library.data.batching.captions import Position
from library.data.batching.prior_draws import DrawnText, drawn_caption
from library.data.batching.sampler import GlobalBatch, SampleRequest
from library.data.config.blueprint import DatasetOptions
from library.data.loading.batch import Batch
from library.data.loading.stand_ins import stand_ins
from library.data.pixels.fill_masks import FillMasks
from library.data.pixels.images import load_image, part_shown
from library.data.pixels.latent_cache import LatentCache
from library.data.pixels.masks import Masks
from library.errors import UserError

Tokenize = Callable[[str], tuple[Tensor, Tensor | None]]  # caption -> ids int64 [N,77], weights float32 [N,77] or None


@dataclass(frozen=True)
class PlannedUpdates:
    """Number of updates of a run, and of batches per update."""

    updates: int = 0
    batches_per_update: int = 1


class TrainingDataset(torch.utils.data.Dataset["Batch"]):
    """Stateless and picklable: dataset[share] depends only on the share. Only token warm-up uses `planned`."""

    def __init__(
        self,
        filled: FilledData,
        tokenize: Tokenize,
        rewrite_caption: RewriteCaption = keep_caption,
        planned: PlannedUpdates = PlannedUpdates(),
        cache: LatentCache | None = None,
    ) -> None:
        """With `cache`, latents come from there, and images are read only to mask parts of them (inpainting)."""
        self.filled, self.tokenize, self.rewrite_caption = filled, tokenize, rewrite_caption
        self.planned, self.cache = planned, cache
        self.masks = Masks(filled, keep=cache is not None)
        self.fill_masks = FillMasks(filled) if filled.blueprint.inpainting else None

    def caption(self, request: SampleRequest) -> str:
        """The caption of this showing."""
        return self._text(request).text

    def _text(self, request: SampleRequest) -> DrawnText:
        position = Position(request.epoch, request.batch // self.planned.batches_per_update, self.planned.updates)
        return drawn_caption(self.filled, request, position, self.rewrite_caption)

    def image(self, request: SampleRequest, placement: Placement | None = None) -> np.ndarray:
        """The pixels of this showing, float32 [3,H,W] in −1..1. Raises UserError with the name of an unreadable file."""
        return load_image(self.filled.records[request.record], placement or self.filled.placements[request.record], request.seed)

    def __getitem__(self, share: GlobalBatch) -> Batch:
        """The Batch of a share, in the order of the share. Raises UserError if neither an image nor a replacement is readable."""
        unreadable: list[str] = []
        drawn = [self._drawn(request, unreadable) for request in share]
        shown, places = [request for request, _, _ in drawn], [place for _, place, _ in drawn]
        masked, mirrored = [(request.record, request.seed) for request in shown], self._mirrored(shown)
        texts = list(map(self._text, shown))
        captions, prior = tuple(text.text for text in texts), self.filled.prior_from_base
        ids, weights = zip(*map(self.tokenize, captions), strict=True)
        return Batch(
            images=_stacked([picture.image for _, _, picture in drawn]),
            latents=_stacked([picture.latents for _, _, picture in drawn]),
            input_ids=torch.stack(ids),
            token_weights=None if weights[0] is None else torch.stack(weights),
            loss_weights=torch.tensor([_weight(*one, prior) for one in zip(shown, texts, strict=True)], dtype=torch.float32),
            seeds=torch.tensor([request.seed for request in shown], dtype=torch.int64),
            captions=captions,
            paths=tuple(str(self.filled.records[request.record].path) for request in shown),
            records=tuple(request.record for request in shown),
            masks=self.masks.of(masked, places, mirrored),
            fill_masks=None if self.fill_masks is None else torch.from_numpy(self.fill_masks.of(masked, places, mirrored)),
            sizes=torch.tensor([self._sizes(request, place) for request, place, _ in drawn], dtype=torch.int64),
            strata=_strata(shown),
            network_multiplier=self._dataset_options(share).network_multiplier,
            unreadable=tuple(unreadable),
            prior=None if prior is None else torch.tensor([text.is_prior for text in texts]),
        )

    def _sizes(self, request: SampleRequest, placement: Placement) -> tuple[int, ...]:
        """The original image size, left and top of the crop in the resized image, and the size shown; a cache contains the centre crop."""
        record = self.filled.records[request.record]
        _, corner = part_shown(record, placement, None if self.cache is not None else request.seed)
        return (*record.size, *corner, *placement.bucket)

    def _dataset_options(self, share: GlobalBatch) -> DatasetOptions:
        """Options of the dataset that all images of the batch belong to."""
        return self.filled.blueprint.datasets[self.filled.records[share[0].record].dataset].options

    def _mirrored(self, shown: list[SampleRequest]) -> list[bool] | None:
        """Which showings the cache mirrors; it also mirrors prepared latents that have a mirror image."""
        return None if self.cache is None else [self.cache.flipped(request.record, request.seed) for request in shown]

    def _drawn(self, request: SampleRequest, unreadable: list[str]) -> tuple[SampleRequest, Placement, _Picture]:
        """The showing, or its replacement, with placement and pixels or latents; errors of unreadable files are added to `unreadable`."""
        try:
            return request, self.filled.placements[request.record], self._picture(request, None)
        except UserError as fault:
            reasons = fault.problems
        unreadable += reasons
        for other, placement in stand_ins(self.filled, request, any_size=self.cache is None):
            try:
                return other, placement, self._picture(other, placement)
            except UserError as fault:
                unreadable += fault.problems
        raise UserError(*(one.reworded(f"{one}; no other image of its size can replace it") for one in reasons))

    def _picture(self, request: SampleRequest, placement: Placement | None) -> _Picture:
        if self.cache is None:
            return _Picture(torch.from_numpy(self.image(request, placement)), None)
        latents = self.cache.latents(request.record, request.seed)
        return _Picture(None if self.fill_masks is None else self._as_cached(request, self.cache), latents)

    def _as_cached(self, request: SampleRequest, cache: LatentCache) -> Tensor:
        """The pixels [3,H,W] that match the cached latents: the centre crop, mirrored if the latents are."""
        index = request.record
        pixels = torch.from_numpy(load_image(self.filled.records[index], self.filled.placements[index], None))
        return pixels.flip(2) if cache.flipped(index, request.seed) else pixels


class _Picture(NamedTuple):
    """Content of a showing: pixels [3,H,W], latents [4,h,w] or both."""

    image: Tensor | None
    latents: Tensor | None


def _stacked(tensors: list[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present) if present else None


def _weight(request: SampleRequest, text: DrawnText, prior: float | None) -> float:
    return request.weight if prior is None or not text.is_prior else request.weight * prior


def _strata(shown: list[SampleRequest]) -> Tensor | None:
    """int64 [B,2]; None if any request has no stratum."""
    places = [request.stratum for request in shown if request.stratum is not None]
    return torch.tensor(places, dtype=torch.int64) if len(places) == len(shown) else None
