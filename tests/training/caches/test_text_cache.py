"""A caption that is kept gives the context that encoding it gives, bit for bit, within the bound on memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from library.data.config.blueprint import SubsetOptions
from library.model.load import load
from library.model.text.conditioning import Conditioning
from library.training.caches.text_cache import LIMIT, TextCache, text_cache
from tests.messages import refused

CAPTIONS = ["a cat", "a dog on a mat", "", "a cat", "many small words about nothing in particular"]


class Counting:
    """Replaces the text encoder, and counts the captions that it has read."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, ids: Tensor, weights: Tensor | None) -> Conditioning:
        assert len(ids) == 1 and not torch.is_grad_enabled()
        self.read += 1
        context = ids.float().flatten(1)[..., None].expand(-1, -1, 4) * (1 if weights is None else weights.flatten(1)[..., None])
        return Conditioning(context)


def ids(captions: list[str], length: int = 77) -> Tensor:
    return torch.tensor([[list(caption.encode()[:length].ljust(length, b"\0"))] for caption in captions])


def test_each_caption_is_encoded_once_in_all_batches() -> None:
    counting = Counting()
    cache = TextCache(counting)
    first = cache(CAPTIONS, ids(CAPTIONS)).context
    again = cache(CAPTIONS[::-1], ids(CAPTIONS[::-1])).context
    assert counting.read == 4 and torch.equal(first.flip(0), again)
    assert torch.equal(first, ids(CAPTIONS).float().flatten(1)[..., None].expand(-1, -1, 4))


def test_without_memory_only_the_batch_shares_its_captions() -> None:
    counting = Counting()
    cache = TextCache(counting, 0)
    assert torch.equal(cache(CAPTIONS, ids(CAPTIONS)).context, cache(CAPTIONS, ids(CAPTIONS)).context)
    assert counting.read == 8 and cache.bytes == 0


def test_memory_stays_in_bounds_and_what_was_used_last_stays() -> None:
    counting = Counting()
    size = 77 * 4 * 4
    cache = TextCache(counting, 2 * size)
    for caption in ("a", "b", "a", "c", "a", "b"):  # c pushes b out, then b pushes c out
        cache([caption], ids([caption]))
        assert cache.bytes <= 2 * size
    assert counting.read == 4


def test_weights_and_lengths_are_told_apart() -> None:
    counting = Counting()
    cache = TextCache(counting)
    assert cache(["a"], ids(["a"], 5)).context.shape[1] == 5 and cache(["a"], ids(["a"], 9)).context.shape[1] == 9
    weighted = cache(["(a)"], ids(["a"]), torch.full((1, 1, 77), 1.5)).context
    assert torch.equal(weighted, 1.5 * cache(["a"], ids(["a"])).context)


def test_a_pooled_embedding_is_kept_with_the_context() -> None:
    counting = Counting()

    def pooling(ids: Tensor, weights: Tensor | None) -> Conditioning:
        context = counting(ids, weights).context
        return Conditioning(context, context.mean(dim=1))

    cache = TextCache(pooling)
    first, again = (cache(CAPTIONS, ids(CAPTIONS)) for _ in range(2))
    assert first.pooled is not None and again.pooled is not None and counting.read == 4
    assert torch.equal(first.pooled, ids(CAPTIONS).float().flatten(1).mean(dim=1)[:, None].expand(-1, 4)) and torch.equal(
        first.pooled, again.pooled
    )
    assert cache.bytes == 4 * (77 + 1) * 4 * 4


@dataclass
class Method:
    """The question that the text cache asks."""

    until: int = 0

    def trains_text_encoder(self, step: int) -> bool:
        return step < self.until


@pytest.fixture(scope="module")
def model(tiny_v1: Path):
    return load(tiny_v1)


def inputs(**subset: object) -> SimpleNamespace:
    blueprint = SimpleNamespace(subsets=lambda: [SubsetOptions(), replace(SubsetOptions(), **subset)])
    return SimpleNamespace(plan=SimpleNamespace(updates=10), data=SimpleNamespace(blueprint=blueprint))


def limit(cache: TextCache | None) -> int | None:
    return None if cache is None else cache._limit


def test_the_context_of_a_caption_is_the_same_bit_for_bit_kept_or_not_and_in_any_batch(model) -> None:
    rows = [model.tokenizer(caption)[0] for caption in CAPTIONS]
    cached, fresh = (text_cache(mode, model, Method(), inputs(), 2) for mode in ("auto", "off"))
    model.text_encoder.train()  # as in training
    expected = fresh(CAPTIONS, torch.stack(rows)).context
    for batch in ([0, 1, 2, 3, 4], [3], [4, 0], [2, 2, 1]):
        captions, stacked = [CAPTIONS[place] for place in batch], torch.stack([rows[place] for place in batch])
        for cache in (cached, fresh):
            assert torch.equal(cache(captions, stacked).context, expected[batch])
    whole = model.encode(torch.stack(rows), None, 2).context
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-4)
    assert not expected.requires_grad


def test_what_is_kept_by_default(model) -> None:
    assert limit(text_cache("auto", model, Method(), inputs(), None)) == LIMIT
    assert limit(text_cache("auto", model, Method(), inputs(caption_dropout_rate=0.5), None)) == LIMIT
    for changing in ({"shuffle_caption": True}, {"caption_tag_dropout_rate": 0.1}, {"token_warmup_step": 4.0}, {"enable_wildcard": True}):
        assert limit(text_cache("auto", model, Method(), inputs(**changing), None)) == 0
        assert limit(text_cache("on", model, Method(), inputs(**changing), None)) == LIMIT
    assert limit(text_cache("off", model, Method(), inputs(), None)) == 0
    assert limit(text_cache("auto", model, Method(until=4), inputs(), None)) == LIMIT  # frozen after update 4
    assert text_cache("auto", model, Method(until=10), inputs(), None) is None


def test_nothing_is_kept_of_a_text_encoder_that_is_trained_or_draws_by_chance(model) -> None:
    with refused("OPT-008", "--cache_text_encoder_outputs on"):
        text_cache("on", model, Method(until=10), inputs(), None)
    layer = next(module for module in model.text_encoder.modules() if isinstance(module, nn.Linear))
    layer.forward = layer.forward  # as a network does
    try:
        assert text_cache("auto", model, Method(), inputs(), None) is None
    finally:
        del layer.forward
    model.text_encoder.config.attention_dropout = 0.1
    try:
        assert text_cache("auto", model, Method(), inputs(), None) is None
    finally:
        model.text_encoder.config.attention_dropout = 0.0
