"""`init=pissa|olora|orthogonal`: the start is the paper's, the first output the model's, the file a plain LoRA of what was learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn

from library.lora.variants.started_layer import STARTS, OLoRALayer, PiSSALayer
from library.lora.variants.starts import olora, orthogonal, pissa
from networks import dora, dylora, lora, lora_fa
from tests.messages import refused
from tests.networks.models import run_text_encoder, tiny_text_encoder, tiny_unet

SUBTRACTED = ("pissa", "olora")


@pytest.fixture
def double():
    """Layers and models in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def weight(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def moved(network: nn.Module, deviation: float = 0.02) -> None:
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += deviation * torch.randn(parameter.shape, generator=noise)


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (20, 20)])
def test_pissa_is_the_root_of_the_largest_singular_values(shape: tuple[int, int]) -> None:
    w, scale, rank = weight(*shape), 0.25, 5
    down, up = pissa(w, rank, scale)
    u, s, vh = torch.linalg.svd(w)
    torch.testing.assert_close(scale * up @ down, u[:, :rank] * s[:rank] @ vh[:rank], rtol=0, atol=1e-11)
    for factor in (up.T @ up, down @ down.T):  # A·Aᵀ and Bᵀ·B are S/s: both factors have the root
        torch.testing.assert_close(factor, torch.diag(s[:rank] / scale), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(24, 16), (16, 24)])
def test_olora_is_the_head_of_the_qr_decomposition(shape: tuple[int, int]) -> None:
    w, rank = weight(*shape), 5
    q, r = torch.linalg.qr(w)
    down, up = olora(w, rank, 0.5)
    torch.testing.assert_close(up.T @ up, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(up @ down, q[:, :rank] @ r[:rank], rtol=0, atol=1e-12)
    torch.testing.assert_close(down.tril(-1), torch.zeros_like(down), rtol=0, atol=1e-12)


def test_orthogonal_halves_cancel_though_neither_is_zero() -> None:
    torch.manual_seed(0)
    down, up = orthogonal(weight(24, 16), 6, 1.0)
    assert down.shape == (6, 16) and up.shape == (24, 6)
    assert (up @ down).abs().max() < 1e-15 < 1e-3 < min(up.abs().mean(), down.abs().mean())
    assert torch.linalg.matrix_rank(down) == torch.linalg.matrix_rank(up) == 3


@pytest.mark.parametrize("init", SUBTRACTED)
def test_what_is_learned_is_what_peft_learns_from_the_residual(init: str) -> None:
    """PEFT changes the weight and trains a LoRA from the start; the same output and the same gradients come of both."""
    torch.manual_seed(1)
    base = nn.Sequential(nn.Linear(12, 10))
    layer = STARTS[init](base[0], 4, 2.0)
    layer.attach(base[0])
    x = torch.randn(3, 12)
    peft = get_peft_model(nn.Sequential(nn.Linear(12, 10)), LoraConfig(r=4, lora_alpha=2, target_modules=["0"]))
    inside = peft.base_model.model[0]
    inside.base_layer.load_state_dict(base[0].state_dict())
    (inside.pissa_init if init == "pissa" else inside.olora_init)("default", *(["pissa"] if init == "pissa" else []))
    factors = [(layer.lora_down.weight, inside.lora_A["default"].weight), (layer.lora_up.weight, inside.lora_B["default"].weight)]
    torch.testing.assert_close(layer.scale * factors[1][0] @ factors[0][0], 0.5 * factors[1][1] @ factors[0][1], rtol=0, atol=2e-6)
    with torch.no_grad():
        for ours, theirs in factors:
            theirs.copy_(ours)  # the signs of its vectors may be others
            change = 0.1 * torch.randn_like(ours)
            ours += change
            theirs += change
    for model in (base, peft):
        model(x).square().sum().backward()
    torch.testing.assert_close(base(x), peft(x), rtol=1e-4, atol=1e-5)
    for ours, theirs in factors:
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("init", STARTS)
def test_the_first_output_is_the_models(init: str, double) -> None:
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    latents, context = weight(2, 4, 8, 8), weight(2, 5, 16)
    run = lambda: (unet(latents, torch.tensor([3, 700]), context).sample, run_text_encoder(text_encoder))  # noqa: E731
    before = run()
    network = lora.create_network(1.0, 4, 2.0, None, text_encoder, unet, conv_dim="2", init=init)
    network.apply_to(text_encoder, unet)
    for now, then in zip(run(), before, strict=True):
        if init in SUBTRACTED:
            assert torch.equal(now, then)
        torch.testing.assert_close(now, then, rtol=0, atol=1e-13)
    moved(network)
    assert all((now - then).abs().max() > 1e-4 for now, then in zip(run(), before, strict=True))
    network.set_multiplier(0.0)
    assert all(torch.equal(now, then) for now, then in zip(run(), before, strict=True))


@pytest.mark.parametrize("init", STARTS)
def test_the_file_is_a_plain_lora_for_the_unchanged_model(init: str, tmp_path: Path, double) -> None:
    unet = tiny_unet()
    network = lora.create_network(1.0, 4, 2.0, None, None, unet, conv_dim="2", rs_lora="True", init=init)
    network.apply_to(None, unet, apply_text_encoder=False)
    moved(network)
    latents, context = weight(2, 4, 8, 8), weight(2, 5, 16)
    trained = unet(latents, torch.tensor([3, 700]), context).sample
    network.restore()
    network.save_weights(tmp_path / "x.safetensors", None, None)
    times = 2 if init in SUBTRACTED else 1
    tensors = load_file(tmp_path / "x.safetensors")
    assert not any("start" in name for name in tensors)
    assert (network.lora_dim, network.alpha) == (None, None)  # ranks of 4 and 2
    for key, layer in network.layers().items():
        assert tensors[f"{key}.lora_down.weight"].shape[0] == times * layer.rank == tensors[f"{key}.lora_up.weight"].shape[1]
        assert float(tensors[f"{key}.alpha"]) / (times * layer.rank) == pytest.approx(layer.scale)
        delta = float(tensors[f"{key}.alpha"]) / (times * layer.rank) * tensors[f"{key}.lora_up.weight"].flatten(1).double()
        delta = delta @ tensors[f"{key}.lora_down.weight"].flatten(1).double()
        torch.testing.assert_close(layer.delta_weight().flatten(1).double(), delta, rtol=1e-5, atol=1e-7)
    plain, _ = lora.create_network_from_weights(1.0, tmp_path / "x.safetensors", None, None, unet, for_inference=True)
    plain.apply_to(None, unet, apply_text_encoder=False)
    torch.testing.assert_close(unet(latents, torch.tensor([3, 700]), context).sample, trained, rtol=0, atol=1e-12)
    plain.restore()
    network.merge_to(None, unet)
    torch.testing.assert_close(unet(latents, torch.tensor([3, 700]), context).sample, trained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init", SUBTRACTED)
def test_a_file_in_16_bits_loses_what_16_bits_lose_and_no_more(init: str, tmp_path: Path) -> None:
    """Stored as B and A next to B₀ and A₀, what was learned would be a small difference of large rounded products."""
    unet = tiny_unet()
    network = lora.create_network(1.0, 4, 4.0, None, None, unet, init=init)
    moved(network, 1e-3)
    network.save_weights(tmp_path / "half.safetensors", torch.float16, None)
    half, _ = lora.create_network_from_weights(1.0, tmp_path / "half.safetensors", None, None, unet)
    for key, layer in network.layers().items():
        wanted = layer.delta_weight()
        assert (half.layers()[key].delta_weight() - wanted).norm() < 1e-3 * wanted.norm(), key


@pytest.mark.parametrize("kind", [PiSSALayer, OLoRALayer])
def test_dropout_takes_the_same_components_of_both_products(kind) -> None:
    module = nn.Linear(8, 8, bias=False)
    dropouts = lora.LoRALayer(module, 4, 4).dropouts.__class__(rank=0.5)
    layer = kind(module, 4, 4.0, 1.0, dropouts).train()
    moved(layer, 0.1)
    x = torch.randn(5, 8)
    torch.manual_seed(0)
    dropped = layer._add_delta(module, (x,), torch.zeros(5, 8))
    torch.manual_seed(0)
    mask = torch.full((5, 4), 0.5).bernoulli() * 2
    hidden, start = x @ layer.lora_down.weight.T * mask, x @ layer.start_down.T * mask
    torch.testing.assert_close(dropped, hidden @ layer.lora_up.weight.T - start @ layer.start_up.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init", SUBTRACTED)
def test_network_weights_goes_on_where_a_file_of_this_start_ended(init: str, tmp_path: Path) -> None:
    unet = tiny_unet()
    first = lora.create_network(1.0, 4, 2.0, None, None, unet, conv_dim="2", init=init)
    moved(first)
    first.save_weights(tmp_path / "first.safetensors", None, None)
    second = lora.create_network(1.0, 4, 2.0, None, None, unet, conv_dim="2", init=init)
    assert "modules loaded" in second.load_weights(tmp_path / "first.safetensors")
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], tensor, rtol=0, atol=1e-6)
    other = lora.create_network(1.0, 4, 2.0, None, None, tiny_unet(seed=9), conv_dim="2", init=init)
    with refused("LORA-004", tmp_path / "first.safetensors", "remove --network_args init"):
        other.load_weights(tmp_path / "first.safetensors")
    plain = lora.create_network(1.0, 4, 2.0, None, None, unet, conv_dim="2")
    plain.save_weights(tmp_path / "plain.safetensors", None, None)
    with refused("LORA-004", tmp_path / "plain.safetensors", "ranks"):
        second.load_weights(tmp_path / "plain.safetensors")


def test_wrong_starts_are_told_in_one_line() -> None:
    unet = tiny_unet()
    for args, asked in (
        ({"init": "pisa"}, ("LORA-008", "init=pisa", "pissa?")),
        ({"init": "gaussian"}, ("LORA-008", "init=gaussian", "pissa, olora, orthogonal")),
        ({"init": "orthogonal", "conv_dim": "3"}, ("LORA-008", "init=orthogonal", "rank 3", "even")),
        ({"innit": "pissa"}, ("LORA-007", "innit", "init?")),
        ({"init": "pissa", "conv_dim": "17"}, ("LORA-008", "init", "rank 17", "16×")),
    ):
        with refused(*asked):
            lora.create_network(1.0, 4, 1.0, None, None, unet, **args)
    for module in (dora, dylora, lora_fa):
        with refused("LORA-007", "init", "networks.lora"):
            module.create_network(1.0, 4, 1.0, None, None, unet, init="pissa")
    with refused("LORA-007", "init", "created from a file"):
        lora.create_network_from_weights(1.0, "x.safetensors", None, None, unet, init="pissa")
