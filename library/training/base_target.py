"""The target of images that keep the model's knowledge (`--prior_from_base`): the prediction of the model as it was before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from library.data.loading.batch import Batch
from library.method import RemembersBase
from library.model.bundle import StableDiffusion
from library.model.text.conditioning import Conditioning
from library.training.caches.text_cache import TextCache, base_texts
from library.training.run_context import RunStart

Predict = Callable[[StableDiffusion, Tensor, Tensor, Conditioning], Tensor]  # model, noisy [B,4,h,w], timesteps [B], captions -> [B,4,h,w]


@dataclass(frozen=True)
class BaseTarget:
    """`texts` encodes captions with the original text encoder, one caption at a time, so that other captions have no influence."""

    method: RemembersBase
    texts: TextCache

    def put(self, target: Tensor, batch: Batch, predict: Predict, noisy: Tensor, t: Tensor, captions: Conditioning) -> Tensor:
        """Return `target` [B,4,h,w] with the base model's prediction, float32, in the rows of `batch.prior`.

        `captions` are those of the trained model; their sizes and known image regions apply to both models.
        """
        rows = _rows(batch)
        if rows is None:
            return target
        texts = [batch.captions[row] for row in rows.tolist()]
        rows = rows.to(noisy.device, non_blocking=True)
        with torch.no_grad():
            own = self.texts(texts, batch.input_ids[rows], None if batch.token_weights is None else batch.token_weights[rows])
            conditioning = replace(own, size_ids=_picked(captions.size_ids, rows), known=_picked(captions.known, rows))
            with self.method.as_before() as base:
                predicted = predict(base, noisy[rows], t[rows], conditioning)
        return target.float().index_copy(0, rows, predicted.float())


def base_target(run: RunStart, clip_skip: int | None, texts: TextCache | None) -> BaseTarget | None:
    """Build the target of a run, on its device; None if no image needs it. `texts` is for a text encoder that is frozen, now or later."""
    if run.inputs.data.prior_from_base is None:
        return None
    method = run.method
    assert isinstance(method, RemembersBase), "scripts whose methods do not remember have no such option"
    with method.as_before() as base:
        for part in (base.unet, *base.text_encoders):
            part.to(run.device)
    if texts is None or run.method.trains_text_encoder(0):
        texts = base_texts(run.options.data.cache_text_encoder_outputs, method, run.inputs, clip_skip)
    return BaseTarget(method, texts)


def masks_of(batch: Batch) -> Tensor | None:
    """Return the mask of the loss [B,1,h,w]: 1 everywhere for targets from the base model, which are right everywhere."""
    rows = _rows(batch)
    if batch.masks is None or rows is None:
        return batch.masks
    return batch.masks.index_fill(0, rows.to(batch.masks.device, non_blocking=True), 1.0)


def _rows(batch: Batch) -> Tensor | None:
    """Return the rows with the base model's prediction as target, int64 on the CPU; None if there are none."""
    if batch.prior is None or not batch.prior.any():
        return None
    return batch.prior.nonzero().flatten()


def _picked(tensor: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if tensor is None else tensor[rows]
