"""Caches the outputs of a text encoder that is not trained: each distinct caption is encoded once, within a memory limit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from library.console import log
from library.errors import UserError, coded
from library.method import Method, RemembersBase
from library.model.bundle import StableDiffusion
from library.model.text.conditioning import Conditioning
from library.training.planning.inputs import Inputs

LIMIT = 1 << 30  # bytes; a caption of 75 tokens takes 0.23 MiB (v1) or 0.30 MiB (v2) in float32
Encode = Callable[[Tensor, Tensor | None], Conditioning]  # ids [1,N,T], weights [1,N,T] or None -> conditioning of one caption


class TextCache:
    """Encodes each caption of a batch separately, so that its conditioning depends neither on the rest of the batch nor on the cache.

    Up to `limit` bytes of conditionings stay in main memory, the least recently used go first; 0 caches nothing.
    """

    def __init__(self, encode: Encode, limit: int = LIMIT) -> None:
        self._encode, self._limit = encode, limit
        self._kept: OrderedDict[tuple[str, tuple[int, ...]], Conditioning] = OrderedDict()
        self.bytes = 0

    def __call__(self, captions: Sequence[str], input_ids: Tensor, token_weights: Tensor | None = None) -> Conditioning:
        """Captions with their ids [B,N,T] and weights [B,N,T] on any device -> their conditioning there, without gradients.

        Ids and weights must be a function of the caption and their shape: the lookup is by text, so that no device has to synchronize.
        """
        shown: dict[str, Conditioning] = {}
        for place, caption in enumerate(captions):
            if caption not in shown:
                row = slice(place, place + 1)
                key = (caption, tuple(input_ids.shape[1:]))
                shown[caption] = self._one(key, input_ids[row], None if token_weights is None else token_weights[row])
        return Conditioning.joined([shown[caption] for caption in captions])

    def _one(self, key: tuple[str, tuple[int, ...]], input_ids: Tensor, token_weights: Tensor | None) -> Conditioning:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key].map(lambda tensor: tensor.to(input_ids.device, non_blocking=True))
        with torch.no_grad():
            encoded = self._encode(input_ids, token_weights)
        if self._limit >= encoded.nbytes:
            self._kept[key] = encoded.map(_in_main_memory)
            self.bytes += encoded.nbytes
            while self.bytes > self._limit:
                self.bytes -= self._kept.popitem(last=False)[1].nbytes
        return encoded


def _in_main_memory(tensor: Tensor) -> Tensor:
    """A copy in main memory, page-locked if a GPU reads it: otherwise each step would wait for the transfer."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda).copy_(tensor)


def text_cache(mode: str, model: StableDiffusion, method: Method, inputs: Inputs, clip_skip: int | None) -> TextCache | None:
    """The text cache for as long as the text encoder is not trained, by `--cache_text_encoder_outputs` auto, on or off.

    Returns None where the text encoder is trained to the end or its output is random. Raises UserError for `on` where nothing can be
    cached.
    """
    reason = None
    if method.trains_text_encoder(inputs.plan.updates - 1):
        reason = "the text encoder is trained"
    elif any(map(_draws, model.text_encoders)):
        reason = "a network works inside the text encoder"
    if reason:
        if mode == "on":
            raise UserError(coded("OPT-008", f"--cache_text_encoder_outputs on: {reason}, so outputs cannot be cached; remove the option"))
        return None
    keeps = _keeps(mode, inputs)
    if keeps:
        log.info("text encoder: not trained%s; each caption is encoded once", "" if not method.trains_text_encoder(0) else " later on")
    encode = partial(_encode, model, clip_skip)
    return TextCache(encode, LIMIT if keeps else 0)


def base_texts(mode: str, method: RemembersBase, inputs: Inputs, clip_skip: int | None) -> TextCache:
    """The text cache of the text encoder as it was before training, which never changes; `mode` is as in `text_cache`."""
    return TextCache(partial(_encode_as_before, method, clip_skip), LIMIT if _keeps(mode, inputs) else 0)


def _keeps(mode: str, inputs: Inputs) -> bool:
    changing = any(subset.captions_change for subset in inputs.data.blueprint.subsets())
    return mode == "on" or (mode == "auto" and not changing)


def _encode_as_before(method: RemembersBase, clip_skip: int | None, input_ids: Tensor, token_weights: Tensor | None) -> Conditioning:
    with method.as_before() as base:
        return base.encode(input_ids, token_weights, clip_skip)


def _encode(model: StableDiffusion, clip_skip: int | None, input_ids: Tensor, token_weights: Tensor | None) -> Conditioning:
    return model.encode(input_ids, token_weights, clip_skip)


def _draws(text_encoder: nn.Module) -> bool:
    """Whether two passes may differ: dropout, or hooks or wrappers that other code put on its layers."""
    if getattr(text_encoder.config, "attention_dropout", 0.0) > 0:
        return True
    for module in text_encoder.modules():
        # transformers registers hooks to return the outputs of layers
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        if any(not (getattr(hook, "__module__", None) or "").startswith("transformers.") for hook in hooks):
            return True
        if "forward" in vars(module) or (isinstance(module, nn.Dropout) and module.p > 0):
            return True
    return False
