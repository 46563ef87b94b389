"""LoRA+ (Hayou et al. 2024): the up matrices at a multiple of the rate, in separate groups."""

from __future__ import annotations

import pytest
import torch

from networks import dylora, lora, lora_fa
from tests.messages import refused
from tests.networks.models import randomize, run_text_encoder, run_unet, tiny_text_encoder, tiny_unet

ALL = {"loraplus_lr_ratio": "4", "loraplus_unet_lr_ratio": "16", "loraplus_text_encoder_lr_ratio": "2"}


def rates(args: dict[str, str], module=lora, unet_lr: float | None = None) -> dict[str, float]:
    network = module.create_network(1.0, 4, 1, None, tiny_text_encoder(), tiny_unet(), **args)
    return {group["name"]: group["lr"] for group in network.prepare_optimizer_params(5e-5, unet_lr, 1e-4)}


@pytest.mark.parametrize(
    ("args", "unet", "text_encoder"),
    [
        ({"loraplus_lr_ratio": "4"}, 4, 4),
        ({"loraplus_unet_lr_ratio": "16"}, 16, 1),
        ({"loraplus_text_encoder_lr_ratio": "2"}, 1, 2),
        (ALL, 16, 2),
        ({"loraplus_lr_ratio": "4", "loraplus_unet_lr_ratio": "0"}, 4, 4),
        ({"loraplus_lr_ratio": "0"}, 1, 1),
        ({"loraplus_lr_ratio": "1"}, 1, 1),
        ({"loraplus_lr_ratio": "0.5"}, 0.5, 0.5),
    ],
)
@pytest.mark.parametrize("module", [lora, dylora])
def test_up_matrices_have_ratio_times_the_rate(args: dict[str, str], unet: float, text_encoder: float, module) -> None:
    expected = {"textencoder": 5e-5, "unet": 1e-4}
    expected |= {"textencoder_plus": 5e-5 * text_encoder} if text_encoder != 1 else {}
    expected |= {"unet_plus": 1e-4 * unet} if unet != 1 else {}
    assert rates(args, module) == pytest.approx(expected)


def test_the_groups_hold_the_downs_and_the_ups_and_everything_once() -> None:
    network = lora.create_network(1.0, 4, 1, None, tiny_text_encoder(), tiny_unet(), conv_dim="2", **ALL)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = {
        group["name"]: [names.pop(id(parameter)) for parameter in group["params"]]
        for group in network.prepare_optimizer_params(None, None, 1e-4)
    }
    assert not names
    for label, members in groups.items():
        assert members and all(("lora_up" if label.endswith("_plus") else "lora_down") in name for name in members)
        assert all(name.startswith("lora_unet" if label.startswith("unet") else "lora_te") for name in members)


def test_block_rates_are_multiplied_too() -> None:
    weights = {"down_lr_weight": "0.5," + ",".join(["1"] * 11), "up_lr_weight": ",".join(["0"] * 12)}
    scaled = rates({**weights, "loraplus_unet_lr_ratio": "8"}, unet_lr=1e-3)
    assert scaled["unet_MID"] == pytest.approx(1e-3) and scaled["unet_MID_plus"] == pytest.approx(8e-3)
    assert not any("OUT" in name for name in scaled) and "textencoder_plus" not in scaled


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_a_step_moves_the_ups_as_if_they_were_trained_alone_at_their_rate(kind: type[torch.optim.Optimizer]) -> None:
    """Two optimizers by hand, one for all downs and one for all ups, against the network's own groups."""

    def stepped(by_hand: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        text_encoder, unet = tiny_text_encoder(), tiny_unet()
        args = {} if by_hand else {"loraplus_lr_ratio": "16"}
        network = lora.create_network(1.0, 4, 1, None, text_encoder, unet, **args)
        network.apply_to(text_encoder, unet)
        randomize(network)
        groups = network.prepare_optimizer_params(None, None, 1e-3)
        if by_hand:
            ups = [parameter for name, parameter in network.named_parameters() if "lora_up" in name]
            downs = [parameter for name, parameter in network.named_parameters() if "lora_down" in name]
            optimizers = [kind(downs, lr=1e-3), kind(ups, lr=16e-3)]
        else:
            optimizers = [kind(groups)]
        torch.manual_seed(1)
        (run_unet(unet).square().mean() + run_text_encoder(text_encoder).square().mean()).backward()
        for optimizer in optimizers:
            optimizer.step()
        return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    one, other = stepped(True), stepped(False)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-7)


def test_wrong_ratios_and_kinds_without_downs_are_refused() -> None:
    with refused("LORA-008", "loraplus_lr_ratio=-1"):
        rates({"loraplus_lr_ratio": "-1"})
    with refused("LORA-007", "loraplus_lr_ratio", "networks.lora_fa"):
        rates({"loraplus_lr_ratio": "16"}, lora_fa)
    with refused("LORA-007", "loraplus_lr_ratoi", "loraplus_lr_ratio?"):
        rates({"loraplus_lr_ratoi": "16"})
