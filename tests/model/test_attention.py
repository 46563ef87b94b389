"""Attention in chunks against torch's own, forwards and backwards; xformers falls back with a word."""

from __future__ import annotations

import copy

import pytest
import torch

from library.model.attention import ChunkedAttention, set_attention


def _loss(unet, latents, context):
    return unet(latents, 500, context).sample.square().mean()


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("chunk", [7, 1024])
def test_chunked_attention_equals_torchs_own_forwards_and_backwards(version, chunk, models):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=generator).double()  # so that rounding is far below the tolerance
    context = torch.randn(2, 77, models[version].unet.config.cross_attention_dim, generator=generator).double()
    results = []
    for processor in (None, ChunkedAttention(chunk)):
        unet = copy.deepcopy(models[version].unet).double()
        if processor is not None:
            unet.set_attn_processor(processor)
        loss = _loss(unet, latents, context)
        loss.backward()
        results.append(
            (loss.detach(), unet.conv_in.weight.grad, unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.weight.grad)
        )
    for own, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, own, atol=1e-9, rtol=1e-7)


@torch.no_grad()
def test_chunked_attention_serves_the_vae_too(models):
    vae = copy.deepcopy(models["v1"].vae)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = vae.encode(images).latent_dist.parameters
    assert set_attention(copy.deepcopy(models["v1"].unet), vae, "mem_eff") == "mem_eff"
    assert isinstance(vae.encoder.mid_block.attentions[0].processor, ChunkedAttention)
    torch.testing.assert_close(vae.encode(images).latent_dist.parameters, expected, atol=1e-5, rtol=1e-5)


def test_chunked_attention_keeps_no_attention_map_for_the_gradient():
    attention = ChunkedAttention(chunk=16)
    query, key, value = (torch.randn(1, 1, 64, 8, requires_grad=True) for _ in range(3))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: sizes.append(tensor.shape) or tensor, lambda tensor: tensor):
        attention._attend(query, key, value)
    assert sizes and all(shape[-1] != 64 for shape in sizes)  # nothing of [queries, keys]


@pytest.mark.skipif(torch.cuda.is_available(), reason="xformers may run here")
def test_xformers_falls_back_with_one_warning_where_it_cannot_run(models, heard):
    unet, vae = copy.deepcopy(models["v1"].unet), copy.deepcopy(models["v1"].vae)
    assert set_attention(unet, vae, "xformers") == "sdpa"
    (line,) = heard.warnings
    assert "--xformers" in line
    assert {type(processor).__name__ for processor in unet.attn_processors.values()} == {"AttnProcessor2_0"}


@pytest.mark.parametrize("kind", ["mem_eff", pytest.param("xformers", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("layer", ["attn1", "attn2"])
def test_kinds_of_attention_agree_in_float32_forwards_and_backwards(layer, kind, models) -> None:
    """One layer, to 1e-5 of the largest value, --sdpa being the measure. (A deep network makes more of any rounding.)"""
    device = "cuda" if kind == "xformers" else "cpu"
    generator = torch.Generator().manual_seed(0)
    unet = copy.deepcopy(models["v1"].unet).to(device)
    attention = getattr(unet.down_blocks[0].attentions[0].transformer_blocks[0], layer)
    width = attention.to_q.in_features
    pixels = torch.randn(2, 1500, width, generator=generator).to(device).requires_grad_()  # more than one chunk
    captions = torch.randn(2, 77, unet.config.cross_attention_dim, generator=generator).to(device) if layer == "attn2" else None
    outputs = []
    for used in ("sdpa", kind):
        assert set_attention(unet, None, used) == used
        attention.zero_grad()
        pixels.grad = None
        result = attention(pixels, captions)
        result.square().sum().backward()
        outputs.append([result.detach(), pixels.grad, *(parameter.grad.clone() for parameter in attention.parameters())])
    for own, other in zip(*outputs, strict=True):
        assert (own - other).abs().max() <= 1e-5 * own.abs().max()


@pytest.mark.parametrize(("fault", "words"), [(RuntimeError("no kernel image is available\nmore"), "no kernel image"), (None, None)])
def test_an_xformers_that_imports_but_cannot_attend_is_found_out(fault, words, monkeypatch) -> None:
    """With an xformers of our own making, on a machine that only says it has a GPU."""
    import sys
    import types

    from library.model import attention

    def attend(query, key, value):
        if fault is not None:
            raise fault
        return query * 1

    package, ops = types.ModuleType("xformers"), types.ModuleType("xformers.ops")
    package.ops, ops.memory_efficient_attention = ops, attend
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(attention.torch.cuda, "is_available", lambda: True)
    real = torch.zeros
    monkeypatch.setattr(attention.torch, "zeros", lambda *shape, device=None, **more: real(*shape, **more))
    reason = attention._xformers_lacks()
    assert reason is None if words is None else words in reason and "more" not in reason
