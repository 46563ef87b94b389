"""Networks on a frozen U-Net in bf16 that computes without autocast: how far their gradients are from float32's, and CUDA's autocast's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from library.lora.layers import LoRALayer, unet_targets
from networks import dylora, lora, lora_fa
from tests.counted_device import CudaAutocast
from tests.networks.models import randomize, run_unet, tiny_text_encoder, tiny_unet

CASES: dict[str, tuple[ModuleType, dict[str, object]]] = {
    "lora": (lora, {}),
    "convolutions": (lora, {"conv_dim": "4", "conv_alpha": "2"}),
    "neuron dropout": (lora, {"neuron_dropout": 0.2}),
    "rank dropout": (lora, {"rank_dropout": "0.2", "conv_dim": "4"}),
    "module dropout": (lora, {"module_dropout": "0.2"}),
    "lora_fa": (lora_fa, {"conv_dim": "4"}),
    "dylora": (dylora, {"unit": "2"}),
}


BATCHES = (1, 2, 3, 4)  # seeds


def dropout(hidden: Tensor, share: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`F.dropout` whose draws are the same in every dtype."""
    if not (share and training):
        return hidden
    return hidden * (torch.rand(hidden.shape) >= share).to(hidden.dtype) / (1 - share)


def gradients(case: str, dtype: torch.dtype, autocast: bool, channels_last: bool = False) -> Tensor:
    """Gradients of a few batches in a row: of a single one, rounding decides by up to a third which way is nearer."""
    module, args = CASES[case]
    unet = tiny_unet().to(dtype)
    if channels_last:
        unet.to(memory_format=torch.channels_last)
    torch.manual_seed(3)
    network = module.create_network(1.0, 4, 2.0, None, None, unet, **args)
    randomize(network)
    network.apply_to(None, unet, False, True)
    network.prepare_optimizer_params(None, 1e-3, 1e-3)
    network.train()
    found = []
    for seed in BATCHES:
        network.zero_grad(set_to_none=False)
        torch.manual_seed(seed)
        with CudaAutocast() if autocast else nullcontext():
            predicted = run_in(unet, dtype if not autocast else torch.float32, seed, 8)
        predicted.float().square().mean().backward()
        found += [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in network.parameters() if one.requires_grad]
    return torch.cat([one.flatten() for one in found])


def run_in(unet: nn.Module, dtype: torch.dtype, seed: int = 1, batch: int = 2) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    latents, context = torch.randn(batch, 4, 8, 8, generator=noise), torch.randn(batch, 5, 16, generator=noise)
    steps = torch.randint(0, 1000, (batch,), generator=noise)
    predicted: Tensor = unet(latents.to(dtype), steps, context.to(dtype)).sample
    return predicted


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_about_as_near_to_float32_as_under_autocast(case: str, channels_last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "dropout", dropout)
    exact = gradients(case, torch.float32, autocast=False)
    bare, cast = (gradients(case, torch.bfloat16, autocast, channels_last) for autocast in (False, True))
    assert bare.dtype == torch.float32 and len(bare) == len(exact)
    off, off_cast = ((made - exact).norm() / exact.norm() for made in (bare, cast))
    assert 0 < off < 0.0275 and off <= 1.2 * off_cast, (float(off), float(off_cast))


def test_a_pass_without_gradients_between_two_with_them_changes_nothing() -> None:
    """As validation and samples do."""
    unet = tiny_unet().to(torch.bfloat16)
    network = lora.create_network(1.0, 4, 2.0, None, None, unet)
    randomize(network)
    network.apply_to(None, unet, False, True)
    found = []
    for between in (False, True):
        network.zero_grad()
        if between:
            with torch.no_grad():
                run_in(unet, torch.bfloat16)
        run_in(unet, torch.bfloat16).float().square().mean().backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    assert torch.equal(*found)


def test_checkpointing_recomputes_the_same_gradients() -> None:
    found = []
    for checkpointing in (False, True):
        unet = tiny_unet().to(torch.bfloat16).train()
        network = lora.create_network(1.0, 4, 2.0, None, None, unet, conv_dim="4")
        randomize(network)
        network.apply_to(None, unet, False, True)
        if checkpointing:
            unet.enable_gradient_checkpointing()
        run_in(unet, torch.bfloat16).float().square().mean().backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    assert torch.equal(*found)


def test_weights_that_change_between_passes_count_in_both_parts() -> None:
    """Also where the text encoder is handed over inside a module that only gives it the level `text_model`, which nobody calls."""
    encoder = tiny_text_encoder()
    level = nn.Module()
    level.text_model = encoder
    network = lora.create_network(1.0, 4, 2.0, None, level, tiny_unet())
    randomize(network)
    network.apply_to(level, None, True, False)
    encoder.to(torch.bfloat16)
    ids = torch.zeros(1, 4, dtype=torch.long)
    first = encoder(ids).last_hidden_state
    for layer in network.layers().values():
        layer.lora_up.weight.data = layer.lora_up.weight.data * 2  # no version tells of this
    assert not torch.equal(encoder(ids).last_hidden_state, first)


def test_a_network_can_be_copied_after_a_pass() -> None:
    unet = tiny_unet().to(torch.bfloat16)
    network = lora.create_network(1.0, 4, 2.0, None, None, unet)
    network.apply_to(None, unet, False, True)
    run_in(unet, torch.bfloat16)
    copied = copy.deepcopy(network)
    assert all(torch.equal(*pair) for pair in zip(copied.state_dict().values(), network.state_dict().values(), strict=True))


def test_in_float32_the_output_has_the_bits_of_the_formula() -> None:
    unet = tiny_unet()
    network = lora.create_network(1.0, 4, 2.0, None, None, unet, conv_dim="4")
    randomize(network)
    network.apply_to(None, unet, False, True)
    found = run_unet(unet)
    network.restore()
    layers, targets = network.layers(), unet_targets(unet)
    assert layers
    for key, layer in layers.items():
        targets[key].module.register_forward_hook(formula(layer))
    assert torch.equal(run_unet(unet), found)


def formula(layer: LoRALayer) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if layer._convolution is None:
            hidden = F.linear(inputs[0], layer.lora_down.weight) * layer.scale
            return output + F.linear(hidden, layer.lora_up.weight)
        stride, padding, dilation = layer._convolution
        hidden = F.conv2d(inputs[0], layer.lora_down.weight, None, stride, padding, dilation) * layer.scale
        return output + F.conv2d(hidden, layer.lora_up.weight)

    return hook
