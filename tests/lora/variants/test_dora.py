"""networks.dora: outputs and gradients compared with PEFT's, merged weights with PEFT's and LyCORIS', files read by both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from library.lora.variants.dora_layer import DoRALayer, InputDoRALayer
from networks import dora, lora
from tests.messages import refused
from tests.networks.models import randomize, run_text_encoder, run_unet, tiny_text_encoder, tiny_unet

MODULES = {"linear": lambda: nn.Linear(6, 10), "convolution": lambda: nn.Conv2d(6, 10, 3, stride=2, padding=1)}


def inputs(kind: str) -> torch.Tensor:
    return torch.randn(2, 3, 6) if kind == "linear" else torch.randn(2, 6, 7, 7)


def acting(module: nn.Module, kind: type[DoRALayer] = DoRALayer) -> DoRALayer:
    layer = kind(module, 4, 3.0).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


@pytest.mark.parametrize("kind", MODULES)
def test_outputs_and_gradients_are_those_of_peft(kind: str) -> None:
    torch.manual_seed(0)
    module, x = MODULES[kind]().double(), inputs(kind).double()
    peft = get_peft_model(nn.Sequential(module), LoraConfig(r=4, lora_alpha=3, use_dora=True, target_modules=["0"])).double()
    inside = peft.base_model.model[0]
    own = MODULES[kind]().double()
    own.load_state_dict(inside.base_layer.state_dict())
    layer = acting(own)
    layer.attach(own)
    magnitude = inside.lora_magnitude_vector["default"].weight
    pairs = [
        (layer.lora_down.weight, inside.lora_A["default"].weight),
        (layer.lora_up.weight, inside.lora_B["default"].weight),
        (layer.dora_scale, magnitude),
    ]
    with torch.no_grad():
        for ours, theirs in pairs:
            theirs.copy_(ours.reshape(theirs.shape))
    torch.testing.assert_close(own(x), peft(x), rtol=0, atol=1e-12)
    for model in (own, peft):
        model(x).square().sum().backward()
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.grad, theirs.grad.reshape(ours.shape), rtol=1e-9, atol=1e-9)
    merged = peft.merge_and_unload()[0].weight
    with torch.no_grad():
        weight = own.weight
        torch.testing.assert_close(layer.gain(weight) * (weight + layer._sum(weight)), merged, rtol=0, atol=1e-12)


@pytest.mark.parametrize("on_output", [True, False])
@pytest.mark.parametrize("kind", MODULES)
def test_merged_weights_are_those_of_lycoris(kind: str, on_output: bool) -> None:
    locon = pytest.importorskip("lycoris.modules.locon")
    torch.manual_seed(0)
    module = MODULES[kind]().double()
    theirs = locon.LoConModule("x", module, 1.0, 4, 3.0, weight_decompose=True, wd_on_out=on_output).double()
    layer = acting(module, DoRALayer if on_output else InputDoRALayer)
    assert layer.dora_scale.shape == theirs.dora_scale.shape
    with torch.no_grad():
        theirs.load_state_dict({**theirs.state_dict(), **layer.state_dict()}, strict=False)
        theirs.dora_scale.copy_(layer.dora_scale)
        merged, weight = theirs.get_merged_weight(1)[0], module.weight
        torch.testing.assert_close(layer.gain(weight) * (weight + layer._sum(weight)), merged, rtol=0, atol=1e-12)
        layer.attach(module)
        x = inputs(kind).double()
        output = module(x)
        layer.detach()
        module.weight.copy_(merged)
        torch.testing.assert_close(output, module(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("on_output", ["True", "False"])
def test_a_new_network_changes_nothing(on_output: str) -> None:
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    before = run_unet(unet), run_text_encoder(text_encoder)
    network = dora.create_network(1.0, 4, 2.0, None, text_encoder, unet, conv_dim="2", wd_on_output=on_output)
    network.apply_to(text_encoder, unet)
    for now, then in zip((run_unet(unet), run_text_encoder(text_encoder)), before, strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=1e-6)
    groups = network.prepare_optimizer_params(None, 1.0, 1.0)
    assert sum(len(group["params"]) for group in groups) == 3 * len(network.layers())


@pytest.mark.parametrize("on_output", ["True", "False"])
def test_saved_loaded_and_merged_it_stays_what_it_is(on_output: str, tmp_path: Path) -> None:
    unet = tiny_unet()
    network = dora.create_network(1.0, 4, 2.0, None, None, unet, conv_dim="2", wd_on_output=on_output)
    randomize(network, deviation=0.1)
    with torch.no_grad():
        for layer in network.layers().values():
            layer.dora_scale.add_(1.0)
    network.set_multiplier(0.7)
    network.apply_to(None, unet, apply_text_encoder=False)
    trained = run_unet(unet)
    network.restore()
    network.save_weights(tmp_path / "d.safetensors", None, None)
    tensors = load_file(tmp_path / "d.safetensors")
    assert {name.partition(".")[2] for name in tensors} == {"alpha", "lora_down.weight", "lora_up.weight", "dora_scale"}
    loaded, _ = dora.create_network_from_weights(0.7, tmp_path / "d.safetensors", None, None, unet, for_inference=True)
    loaded.apply_to(None, unet, apply_text_encoder=False)
    assert torch.equal(run_unet(unet), trained)
    loaded.restore()
    with refused("LORA-001", tmp_path / "d.safetensors", "DoRA", "networks.dora"):
        lora.create_network_from_weights(1.0, tmp_path / "d.safetensors", None, None, unet)
    other = next(key for key in tensors if key.endswith("dora_scale"))
    save_file({**tensors, other: torch.ones(3, 1)}, tmp_path / "odd.safetensors")
    with refused("LORA-005", tmp_path / "odd.safetensors", "3 magnitudes"):
        dora.create_network_from_weights(1.0, tmp_path / "odd.safetensors", None, None, unet)
    loaded.merge_to(None, unet)
    torch.testing.assert_close(run_unet(unet), trained, rtol=1e-3, atol=1e-4)


def test_beside_another_network_each_is_taken_from_the_models_own_weight() -> None:
    """As merging them does: the other network's output is no part of what a DoRA sizes."""
    torch.manual_seed(0)
    module, x = nn.Linear(6, 10).double(), torch.randn(4, 6).double()
    one, two = acting(module), acting(module)
    changes = one.delta_weight() + two.delta_weight()
    one.attach(module)
    two.attach(module)
    output = module(x)
    one.detach()
    two.detach()
    with torch.no_grad():
        torch.testing.assert_close(output, module(x) + x @ changes.double().T, rtol=1e-5, atol=1e-5)


def test_a_plain_lora_goes_on_as_it_is(tmp_path: Path) -> None:
    unet = tiny_unet()
    plain = lora.create_network(1.0, 4, 2.0, None, None, unet)
    randomize(plain, deviation=0.1)
    plain.save_weights(tmp_path / "p.safetensors", None, None)
    plain.apply_to(None, unet, apply_text_encoder=False)
    expected = run_unet(unet)
    plain.restore()
    network = dora.create_network(1.0, 4, 2.0, None, None, unet)
    network.apply_to(None, unet, apply_text_encoder=False)
    network.load_weights(tmp_path / "p.safetensors")
    torch.testing.assert_close(run_unet(unet), expected, rtol=1e-4, atol=1e-5)


def test_a_dora_of_peft_is_read(tmp_path: Path) -> None:
    unet = tiny_unet()
    key = next(key for key in lora.create_network(1.0, 4, 4.0, None, None, unet).layers() if key.endswith("proj_in"))
    down, up, size = torch.randn(4, 16, 1, 1), torch.randn(16, 4, 1, 1), torch.rand(1, 16, 1, 1)
    names = {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up, f"{key}.lora_magnitude_vector": size}
    save_file(names, tmp_path / "peft.safetensors")
    network, _ = dora.create_network_from_weights(1.0, tmp_path / "peft.safetensors", None, None, unet)
    magnitude = network.layers()[key].dora_scale
    assert magnitude.shape == (16, 1, 1, 1) and torch.equal(magnitude.flatten(), size.flatten())
