"""Text encoding against transformers called by hand, window by window."""

from __future__ import annotations

import copy
import types

import pytest
import torch

from library.model.family import FAMILIES, V1
from library.model.text.encode import encode_text
from library.model.text.tokenizer import ClipTokenizer
from tests.small_models import write_checkpoint

CAPTIONS = ("a photo of a cat", "a dog, " * 40, "cat " * 300)


@pytest.fixture(scope="module")
def by_transformers(folders):
    """The text encoders as transformers itself reads them from Diffusers folders."""
    from transformers import CLIPTextModel

    return {version: CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32) for version, folder in folders.items()}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("length", [75, 150, 225])
@pytest.mark.parametrize("clip_skip", [None, 1, 2])
@torch.no_grad()
def test_encoding_equals_transformers_called_by_hand(version, length, clip_skip, models, by_transformers):
    tokenizer = ClipTokenizer(FAMILIES[version], length)
    ids = torch.stack([tokenizer(caption)[0] for caption in CAPTIONS])
    ours = models[version].encode(ids, clip_skip=clip_skip).context
    oracle = by_transformers[version]
    for caption, context in zip(ids, ours, strict=True):
        windows = []
        for window in caption:
            states = oracle(window[None], output_hidden_states=True).hidden_states
            windows.append(oracle.final_layer_norm(states[-(clip_skip or 1)])[0])
        expected = [windows[0][0], *(state for window in windows for state in window[1:76]), windows[-1][76]]
        assert context.shape == (length + 2, windows[0].shape[-1])
        torch.testing.assert_close(context, torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_clip_skip_changes_the_context(models):
    ids = models["v1"].tokenizer("a photo of a cat")[0][None]
    assert not torch.allclose(models["v1"].encode(ids).context, models["v1"].encode(ids, clip_skip=2).context, atol=1e-2)


def test_v2_never_looks_at_the_last_layer_of_its_file(tmp_path):
    from safetensors.torch import load_file, save_file

    from library.model.load import load

    path = write_checkpoint(tmp_path / "v2.safetensors", "v2")
    state = load_file(path)
    last = [name for name in state if ".resblocks.2." in name]  # two layers in use, and the third
    assert last
    for name in last:
        state[name] = torch.full_like(state[name], float("nan"))
    save_file(state, path)
    model = load(path, v2=True)
    assert model.encode(model.tokenizer("a cat")[0][None]).context.isfinite().all()


def test_weights_of_one_change_nothing(models):
    ids = models["v1"].tokenizer("a photo of a cat")[0][None]
    assert models["v1"].encode(ids, torch.ones(1, 1, 77)).context.equal(models["v1"].encode(ids).context)


def test_weights_scale_their_tokens_and_keep_the_mean(models):
    text_encoder = copy.deepcopy(models["v1"].text_encoder)
    torch.nn.init.constant_(text_encoder.final_layer_norm.bias, -0.1)  # as in real models, the mean is not 0
    tokenizer = ClipTokenizer(V1, 150, weighted=True)
    ids, weights = tokenizer("a (cat:1.5) on [grass]" + ", tree" * 50)
    plain = encode_text(text_encoder, ids[None])[0]
    ours = encode_text(text_encoder, ids[None], None, weights[None])[0]
    factors = torch.cat([weights[0, :1], weights[0, 1:76], weights[1, 1:76], weights[1, -1:]])
    expected = plain * factors[:, None]
    expected = expected * (plain.mean() / expected.mean())
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(ours.mean(), plain.mean(), atol=1e-5, rtol=1e-3)


def test_an_encoder_whose_mean_is_nothing_is_weighted_without_rescaling(models):
    ids, weights = ClipTokenizer(V1, weighted=True)("a (cat:1.5)")
    plain = models["v1"].encode(ids[None]).context  # an untrained norm: the mean over the width is 0 but for rounding
    torch.testing.assert_close(models["v1"].encode(ids[None], weights[None]).context, plain * weights[0][None, :, None])


@pytest.mark.parametrize("captions", ["all", "some"])
def test_a_mean_of_exactly_nothing_leaves_gradients_finite(captions):
    """0/0 in the branch that `torch.where` does not take would still reach the gradient as NaN."""

    class Encoder(torch.nn.Module):
        def forward(self, ids):
            return types.SimpleNamespace(last_hidden_state=context.reshape(len(ids), 77, 4))

    signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).expand(2, 1, 77, 4).clone()
    if captions == "some":
        signs[1] += 0.5
    context = signs.requires_grad_()
    weights = torch.ones(2, 1, 77)
    weights[:, :, 3] = 1.5
    weighted = encode_text(Encoder(), torch.zeros(2, 1, 77, dtype=torch.int64), None, weights)
    weighted.square().sum().backward()
    assert context.grad.isfinite().all()
    assert weighted[0].equal(signs[0, 0] * weights[0, 0, :, None])  # not rescaled
    torch.testing.assert_close(context.grad[0, 0], 2 * (weights[0, 0, :, None] ** 2) * signs[0, 0].detach())
