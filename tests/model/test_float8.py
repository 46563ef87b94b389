"""Frozen weights in float8: how exact, how small, with gradients and networks on top, and nothing widened kept in between."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import nn

from library.model.float8 import store_in_float8


def test_layers_are_within_the_formats_error_and_gradients_those_of_the_stored_weights(models) -> None:
    """3 digits after the first: each weight within 1/16 of itself (half a spacing), so a sum of many is far nearer."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), nn.Conv2d(64, 32, 3, stride=2)).requires_grad_(False)
    stored = copy.deepcopy(plain)
    assert store_in_float8(stored) == sum(layer.weight.numel() * 3 - layer.weight.shape[0] * 4 for layer in plain)
    assert [type(layer).__name__ for layer in stored] == ["Conv2d", "Conv2d"] and isinstance(stored[0], nn.Conv2d)
    assert {layer.weight.dtype for layer in stored} == {torch.float8_e4m3fn}
    widened = copy.deepcopy(plain)
    for layer, own, original in zip(widened, stored, plain, strict=True):
        layer.weight.data = own.weight.float() * own.weight_scale
        largest = original.weight.abs().amax(dim=(1, 2, 3), keepdim=True)
        error = (layer.weight - original.weight).abs()
        assert (error <= original.weight.abs() / 16 + largest * 2.0**-10 / 448 + 1e-9).all()
        assert error.norm() / original.weight.norm() < 0.03
    results = []
    for network in (widened, stored):
        images = torch.randn(2, 16, 12, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)
        result = network(images)
        result.square().sum().backward()
        results.append((result.detach(), images.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_each_compute_dtype_is_taken_from_the_input_or_from_autocast(dtype) -> None:
    layer = nn.Linear(128, 64).requires_grad_(False)
    layer.weight.data *= 1e-4  # scales below what fp16 holds
    box = nn.Sequential(copy.deepcopy(layer).to(dtype))
    expected = box(torch.ones(2, 128, dtype=dtype)).float()
    assert store_in_float8(box) > 0
    torch.testing.assert_close(box(torch.ones(2, 128, dtype=dtype)).float(), expected, rtol=0.1, atol=0.02 * expected.abs().max().item())
    if dtype == torch.bfloat16:
        with torch.autocast("cpu", torch.bfloat16):
            assert box(torch.ones(2, 128)).dtype == torch.bfloat16


def test_weights_are_widened_again_for_the_backward_pass_and_not_kept(monkeypatch) -> None:
    box = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 512)).requires_grad_(False)
    store_in_float8(box)
    kind, widened = type(box[0]), []
    real = kind._widened
    monkeypatch.setattr(kind, "_widened", lambda self, dtype: widened.append(weakref.ref(made := real(self, dtype))) or made)
    images = torch.randn(4, 512, requires_grad=True)
    result = box(images)
    assert len(widened) == 2 and all(made() is None for made in widened)  # gone with the forward pass
    result.sum().backward()
    assert len(widened) == 4 and images.grad.isfinite().all()


def test_a_unet_with_a_lora_on_it_trains_on_and_its_dtype_is_as_it_was(models) -> None:
    from networks.lora import create_network

    model = copy.deepcopy(models["v1"])
    for part in (model.unet, model.text_encoder):
        part.requires_grad_(False)
    network = create_network(1.0, 4, 4.0, model.vae, model.text_encoder, model.unet)
    network.apply_to(model.text_encoder, model.unet, True, True)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    context = model.encode(model.tokenizer("a cat")[0][None]).context
    before = model.unet(latents, 500, context).sample.detach()
    assert store_in_float8(model.unet) > 0 and store_in_float8(model.text_encoder) > 0
    assert model.unet.dtype == torch.float32 and model.text_encoder.dtype == torch.float32
    after = model.unet(latents, 500, model.encode(model.tokenizer("a cat")[0][None]).context).sample
    assert 0 < (after - before).norm() / before.norm() < 0.2
    after.square().mean().backward()
    ups = [parameter.grad for name, parameter in network.named_parameters() if "lora_up" in name]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in ups)
