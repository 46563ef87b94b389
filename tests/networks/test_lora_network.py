"""The patched model: equal to merged weights, gradients where they belong, dropouts and norms as their formulas say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from library.lora.layers import Dropouts, LoRALayer, Target
from library.lora.network import LoRANetwork
from library.lora.settings import Rank
from networks.lora import create_network, create_network_from_weights
from tests.messages import refused
from tests.networks.models import randomize, run_text_encoder, run_unet, tiny_text_encoder, tiny_unet

MODULES = {
    "linear": (lambda: nn.Linear(6, 5), (3, 7, 6)),
    "linear without tokens": (lambda: nn.Linear(6, 5, bias=False), (3, 6)),
    "1x1": (lambda: nn.Conv2d(6, 5, 1), (3, 6, 8, 8)),
    "3x3": (lambda: nn.Conv2d(6, 5, 3, padding=1), (3, 6, 8, 8)),
    "3x3 stride 2": (lambda: nn.Conv2d(6, 5, 3, stride=2, padding=1), (3, 6, 8, 8)),
}


def _layer(module: nn.Module, **settings) -> LoRALayer:
    layer = LoRALayer(module, rank=4, alpha=2.0, **settings)
    randomize(layer)
    layer.attach(module)
    return layer


@pytest.mark.parametrize("kind", MODULES)
def test_patched_module_equals_merged_weight(kind):
    make, shape = MODULES[kind]
    module, x = make(), torch.randn(shape)
    layer = _layer(module, multiplier=0.7)
    patched = module(x)
    layer.detach()
    up, down = layer.lora_up.weight, layer.lora_down.weight
    change = 0.7 * 2.0 / 4 * torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)).view_as(module.weight)
    with torch.no_grad():
        module.weight += change
    torch.testing.assert_close(patched, module(x), atol=1e-6, rtol=1e-5)


def test_new_network_changes_nothing_and_starts_like_torch_linear():
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    before = run_unet(unet)
    network = create_network(1.0, 4, 1, None, text_encoder, unet, conv_dim="2")
    network.apply_to(text_encoder, unet)
    assert torch.equal(run_unet(unet), before)
    for layer in network.layers().values():
        down = layer.lora_down.weight
        limit = down[0].numel() ** -0.5  # kaiming uniform with a = √5: U(−1/√fan_in, 1/√fan_in)
        assert down.abs().max() <= limit and down.abs().max() > 0.6 * limit
        assert not layer.lora_up.weight.any()


def test_defaults_are_rank_4_and_alpha_as_given_or_the_rank():
    unet = tiny_unet()
    assert {(layer.rank, layer.scale) for layer in create_network(1.0, None, 1, None, None, unet).layers().values()} == {(4, 0.25)}
    for alpha in (None, 0):
        assert {layer.scale for layer in create_network(1.0, 8, alpha, None, None, unet).layers().values()} == {1.0}


def test_merged_model_equals_patched_model():
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    network = create_network(0.5, 4, 2.0, None, text_encoder, unet, conv_dim="2", conv_alpha="2")
    randomize(network)
    network.apply_to(text_encoder, unet)
    patched = run_unet(unet), run_text_encoder(text_encoder)
    network.restore()
    assert network.is_mergeable()
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    merger, weights = create_network_from_weights(0.5, None, None, text_encoder, unet, weights, for_inference=True)
    merger.merge_to(text_encoder, unet, weights, torch.float32, "cpu")
    for mine, merged in zip(patched, (run_unet(unet), run_text_encoder(text_encoder)), strict=True):
        torch.testing.assert_close(mine, merged, atol=2e-5, rtol=1e-4)


def test_merging_into_half_precision_rounds_once_and_keeps_the_dtype():
    unet = tiny_unet().half()
    network = create_network(1.0, 4, 1.0, None, None, unet)
    randomize(network)
    key, layer = next(iter(network.layers().items()))
    weight = unet.down_blocks[0].attentions[0].proj_in.weight
    assert key == "lora_unet_down_blocks_0_attentions_0_proj_in"
    expected = (weight.float() + layer.delta_weight()).half()
    network.merge_to(None, unet)
    assert torch.equal(weight, expected.detach()) and {p.dtype for p in unet.parameters()} == {torch.float16}


def test_applying_twice_acts_once_and_restore_frees_the_model():
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    before = run_unet(unet)
    network = create_network(1.0, 4, 4, None, text_encoder, unet)
    randomize(network)
    network.apply_to(text_encoder, unet)
    once = run_unet(unet)
    network.apply_to(text_encoder, unet)
    assert torch.equal(run_unet(unet), once) and not torch.equal(once, before)
    network.set_multiplier(0.0)
    assert torch.equal(run_unet(unet), before)
    network.set_multiplier(1.0)
    network.restore()
    network.restore()
    assert torch.equal(run_unet(unet), before)
    network.apply_to(text_encoder, unet)
    assert torch.equal(run_unet(unet), once)


def test_stacked_networks_add_up_and_leave_in_any_order():
    unet = tiny_unet()
    first, second = (create_network(1.0, 4, 4, None, None, unet) for _ in range(2))
    randomize(first, seed=1)
    randomize(second, seed=2)
    second.apply_to(None, unet)
    alone = run_unet(unet)
    second.restore()
    first.apply_to(None, unet)
    second.apply_to(None, unet)
    assert not torch.allclose(run_unet(unet), alone, atol=1e-3)
    first.restore()
    assert torch.equal(run_unet(unet), alone)


def test_building_a_network_with_convolutions_does_not_change_the_next_one():
    unet = tiny_unet()
    plain = set(create_network(1.0, 4, 1, None, None, unet).layers())
    wide = set(create_network(1.0, 4, 1, None, None, unet, conv_dim="4").layers())
    assert plain < wide and set(create_network(1.0, 4, 1, None, None, unet).layers()) == plain


def test_network_holds_nothing_of_the_base_model():
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    network = create_network(1.0, 4, 1, None, text_encoder, unet)
    network.apply_to(text_encoder, unet)
    base = {id(p) for p in [*unet.parameters(), *text_encoder.parameters()]}
    assert not base & {id(p) for p in network.parameters()}
    assert all(key.startswith("lora_") and key.count(".") <= 2 for key in network.state_dict())
    assert not any("lora" in key for key in [*unet.state_dict(), *text_encoder.state_dict()])


def test_gradients_reach_the_network_and_only_the_network():
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    network = create_network(1.0, 4, 1, None, text_encoder, unet)
    network.apply_to(text_encoder, unet)
    randomize(network)
    network.prepare_optimizer_params(None, None, 1e-4)
    (run_unet(unet).square().mean() + run_text_encoder(text_encoder).square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(p.grad is None for p in [*unet.parameters(), *text_encoder.parameters()])


def test_a_part_that_is_not_applied_leaves_the_network_and_its_file():
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    network = create_network(1.0, 4, 1, None, text_encoder, unet)
    network.apply_to(text_encoder, unet, apply_text_encoder=False, apply_unet=True)
    assert all(key.startswith("lora_unet_") for key in network.state_dict())
    assert [group["name"] for group in network.prepare_optimizer_params(None, None, 1e-4)] == ["unet"]


def test_each_part_has_its_rate_and_rate_zero_is_not_trained():
    text_encoder, unet = tiny_text_encoder(), tiny_unet()
    network = create_network(1.0, 4, 1, None, text_encoder, unet)
    both = network.prepare_optimizer_params(5e-5, None, 1e-4)
    assert [(group["name"], group["lr"]) for group in both] == [("textencoder", 5e-5), ("unet", 1e-4)]
    torch.optim.AdamW(both, lr=1.0)
    assert sum(p.numel() for group in both for p in group["params"]) == sum(p.numel() for p in network.parameters())
    only = network.prepare_optimizer_params(0, 2e-4, 1e-4)
    network.prepare_grad_etc(text_encoder, unet)
    assert [(group["name"], group["lr"]) for group in only] == [("unet", 2e-4)]
    assert {id(p) for p in network.get_trainable_params()} == {id(p) for p in only[0]["params"]}
    assert all("lr" not in group for group in network.prepare_optimizer_params(None, None, None))
    with refused("OPT-012", "--learning_rate", "--unet_lr", "--text_encoder_lr"):
        network.prepare_optimizer_params(0, 0, 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_lora_on_a_half_precision_model_computes_in_its_dtype(dtype):
    module, x = nn.Linear(6, 5).to(dtype).requires_grad_(False), torch.randn(3, 7, 6).to(dtype)
    base = module(x)
    layer = _layer(module)
    exact = base.float() + layer.scale * (x.float() @ layer.lora_down.weight.T) @ layer.lora_up.weight.T
    output = module(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), exact, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)
    output.float().square().sum().backward()
    assert {weight.grad.dtype for weight in layer.parameters()} == {torch.float32}


def test_autocast_runs_the_layer_in_the_lower_precision_and_trains_float32_weights():
    module = nn.Linear(6, 5).requires_grad_(False)
    layer = _layer(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = module(torch.randn(3, 7, 6))
    assert output.dtype == torch.bfloat16
    output.float().square().sum().backward()
    assert layer.lora_down.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", ["linear", "linear without tokens", "3x3"])
@pytest.mark.parametrize("dropouts", [Dropouts(neuron=0.3), Dropouts(rank=0.3), Dropouts(module=0.3)], ids=["neuron", "rank", "module"])
def test_dropouts_act_only_in_training_and_keep_their_expectation(kind, dropouts):
    make, shape = MODULES[kind]
    torch.manual_seed(0)
    module, x = make(), torch.randn(1, *shape[1:])
    base = module(x)
    layer = _layer(module, dropouts=dropouts).eval()
    delta = module(x) - base
    torch.testing.assert_close(delta, _applied(LoRALayer(module, 4, 2.0), layer, make(), x), atol=1e-5, rtol=1e-4)
    layer.train()
    draws = torch.stack([module(x) - base for _ in range(4000)])
    share = 0.7 if dropouts.module else 1.0  # leaving out a whole layer is not made up for, as in the ecosystem
    assert (draws.std(0) > 0).any()
    torch.testing.assert_close(draws.mean(0), share * delta, atol=0.1 * delta.abs().max().item(), rtol=0)


def _applied(plain: LoRALayer, source: LoRALayer, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a layer without dropouts adds, with `source`'s weights."""
    before = module(x)
    plain.load_state_dict(source.state_dict())
    plain.attach(module)
    return module(x) - before


@pytest.mark.parametrize("trains", [True, False])
def test_a_layer_is_left_out_in_training_only(trains):
    module, x = nn.Linear(6, 4), torch.ones(1, 6)
    base = module(x)
    layer = _layer(module, dropouts=Dropouts(module=0.5)).train(trains)
    torch.manual_seed(0)
    left_out = [torch.equal(module(x), base) for _ in range(60)]
    assert any(left_out) == trains and not all(left_out) and layer is not None


def test_rank_dropout_drops_components_of_an_image_as_a_whole():
    module = nn.Linear(6, 4, bias=False)
    layer = LoRALayer(module, rank=4, alpha=4.0, dropouts=Dropouts(rank=0.5))
    with torch.no_grad():
        layer.lora_up.weight.copy_(torch.eye(4))  # so that output component = rank component
        layer.lora_down.weight.fill_(1.0)
        module.weight.zero_()
    layer.attach(module)
    torch.manual_seed(0)
    output = module(torch.ones(50, 7, 6))
    assert set(output.unique().tolist()) == {0.0, 12.0}
    assert torch.equal(output, output[:, :1].expand_as(output)) and not torch.equal(output[0], output[1])


def test_dropouts_follow_torchs_seed():
    unet = tiny_unet()
    network = create_network(1.0, 4, 4, None, None, unet, neuron_dropout=0.2, rank_dropout="0.2", module_dropout="0.2")
    randomize(network)
    network.apply_to(None, unet)
    network.on_epoch_start(None, unet)
    outputs = [(torch.manual_seed(seed), run_unet(unet))[1] for seed in (5, 5, 6)]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_max_norm_scales_only_what_exceeds_it_by_the_formula():
    modules = {key: MODULES[key][0]() for key in ("linear", "1x1", "3x3")}
    targets = {key: Target(key, key, module) for key, module in modules.items()}
    network = LoRANetwork(targets, {key: Rank(4, 2.0) for key in targets})
    randomize(network)
    small = network.get_submodule("linear")
    with torch.no_grad():
        small.lora_up.weight.mul_(0.01)
    small_up = small.lora_up.weight.clone()
    before = {key: layer.delta_weight().norm().item() for key, layer in network.layers().items()}
    assert before["1x1"] > 0.5 and before["3x3"] > 0.5 > before["linear"]
    scaled, mean, largest = network.apply_max_norm_regularization(0.5, "cpu")
    after = {key: layer.delta_weight().norm().item() for key, layer in network.layers().items()}
    assert scaled == 2 and torch.equal(small.lora_up.weight, small_up)
    assert after["1x1"] == pytest.approx(0.5, rel=1e-5) and after["3x3"] == pytest.approx(0.5, rel=1e-5)
    assert largest == pytest.approx(0.5, rel=1e-5) and mean == pytest.approx(sum(after.values()) / 3, rel=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients_with_dropout():
    gradients = []
    for checkpointing in (False, True):
        unet = tiny_unet().train()
        network = create_network(1.0, 4, 4, None, None, unet, neuron_dropout=0.2, rank_dropout="0.2", module_dropout="0.2")
        randomize(network)
        network.apply_to(None, unet)
        network.enable_gradient_checkpointing()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        torch.manual_seed(3)
        run_unet(unet).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert any(gradient is not None for gradient in gradients[0])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert (plain is None) == (checkpointed is None)
        if plain is not None:
            torch.testing.assert_close(plain, checkpointed)
