"""A share of requests becomes a Batch: images or nothing, caption of the draw, token ids, weights; the same in any worker."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from library.data.batch import Batch
from library.data.buckets import FilledData
from library.data.captions import Position, draw_caption
from library.data.images import load_image
from library.data.masks import Masks
from library.data.sampler import GlobalBatch, SampleRequest
from library.seeds import python_rng

Tokenize = Callable[[str], tuple[Tensor, Tensor | None]]  # caption -> ids int64 [N,77], weights float32 [N,77] or None
RewriteCaption = Callable[[str, random.Random], str]


def same_caption(caption: str, rng: random.Random) -> str:
    """A RewriteCaption that leaves captions alone."""
    return caption


class TrainingDataset(torch.utils.data.Dataset):
    """Picklable, without state: dataset[share] is a function of the share. `updates` is the run's planned number of updates and
    `batches_per_update` its gradient accumulation; only token warm-up reads them."""

    def __init__(
        self,
        filled: FilledData,
        tokenize: Tokenize,
        rewrite_caption: RewriteCaption = same_caption,
        with_images: bool = True,
        updates: int = 0,
        batches_per_update: int = 1,
    ) -> None:
        self.filled, self.tokenize, self.rewrite_caption = filled, tokenize, rewrite_caption
        self.masks = Masks(filled, keep=not with_images)
        self.with_images, self.updates, self.batches_per_update = with_images, updates, batches_per_update

    def caption(self, request: SampleRequest) -> str:
        """The text that this draw is trained with."""
        record = self.filled.records[request.record]
        position = Position(request.epoch, request.batch // self.batches_per_update, self.updates)
        text = draw_caption(record.caption, record.subset, python_rng(request.seed, "caption"), position)
        return self.rewrite_caption(text, python_rng(request.seed, "rewrite"))

    def image(self, request: SampleRequest) -> np.ndarray:
        """The pixels of this draw, float32 [3,H,W] in −1..1; UserError naming a file that cannot be read."""
        return load_image(self.filled.records[request.record], self.filled.placements[request.record], request.seed)

    def __getitem__(self, share: GlobalBatch) -> Batch:
        """The Batch of a share, its images in the share's order."""
        captions = tuple(self.caption(request) for request in share)
        ids, weights = zip(*map(self.tokenize, captions), strict=True)
        images = torch.from_numpy(np.stack([self.image(request) for request in share])) if self.with_images else None
        return Batch(
            images=images,
            latents=None,
            input_ids=torch.stack(ids),
            token_weights=None if weights[0] is None else torch.stack(weights),
            loss_weights=torch.tensor([request.weight for request in share], dtype=torch.float32),
            seeds=torch.tensor([request.seed for request in share], dtype=torch.int64),
            captions=captions,
            paths=tuple(str(self.filled.records[request.record].path) for request in share),
            records=tuple(request.record for request in share),
            masks=self.masks.of([(request.record, request.seed) for request in share]),
        )
