"""networks.dylora and networks.lora_fa: what they train, and that a DyLoRA cut to a rank is what was trained at that rank."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from networks import dylora, lora, lora_fa
from networks.extract_lora_from_dylora import main as extract
from tests.messages import refusal, refused
from tests.networks.models import randomize, run_unet, tiny_unet
from tests.scripts.running import run_in_process


@pytest.fixture
def unet():
    return tiny_unet()


def dy(unet, unit: int = 2, dim: int = 6, **args: str) -> lora.LoRANetwork:
    network = dylora.create_network(1.0, dim, 3.0, None, None, unet, unit=str(unit), **args)
    randomize(network)
    network.apply_to(None, unet, apply_text_encoder=False)
    return network


def test_each_pass_trains_the_last_unit_of_a_drawn_rank_and_no_other(unet) -> None:
    network = dy(unet).train()
    drawn = set()
    for seed in range(4):
        torch.manual_seed(seed)
        network.zero_grad()
        run_unet(unet).square().sum().backward()
        for layer in network.layers().values():
            rows = layer.lora_down.weight.grad.flatten(1).abs().sum(1).gt(0).nonzero().flatten().tolist()
            columns = layer.lora_up.weight.grad.flatten(1).abs().sum(0).gt(0).nonzero().flatten().tolist()
            assert rows == columns and len(rows) == 2 and rows[0] % 2 == 0
            drawn.add(rows[0])
    assert drawn == {0, 2, 4}


def test_a_pass_depends_on_torchs_random_state_only(unet) -> None:
    network = dy(unet).train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(run_unet(unet))
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    network.eval()
    assert torch.equal(run_unet(unet), run_unet(unet))


def test_extracted_at_each_rank_it_is_the_network_that_was_trained_at_that_rank(unet, tmp_path: Path, monkeypatch) -> None:
    network = dy(unet, conv_dim="4", conv_alpha="1")
    metadata = {"ss_network_dim": "6", "ss_network_alpha": "3", "ss_network_module": "networks.dylora"}
    network.save_weights(tmp_path / "dy.safetensors", None, metadata)
    assert run_in_process(extract, "--model", tmp_path / "dy.safetensors", "--unit", 2, "--save_to", tmp_path / "r.safetensors") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dy.safetensors", "r-2.safetensors", "r-4.safetensors"]
    for rank in (2, 4):
        monkeypatch.setattr(torch, "randint", lambda high, size, rank=rank: torch.tensor(min(rank // 2, high) - 1))
        network.train()
        trained = run_unet(unet)
        network.restore()
        cut, _ = lora.create_network_from_weights(1.0, tmp_path / f"r-{rank}.safetensors", None, None, unet, for_inference=True)
        cut.apply_to(None, unet, apply_text_encoder=False)
        torch.testing.assert_close(run_unet(unet), trained, rtol=1e-4, atol=1e-5)
        assert {layer.rank for layer in cut.layers().values()} == {rank}
        cut.restore()
        network.apply_to(None, unet, apply_text_encoder=False)
    with safe_open(tmp_path / "r-2.safetensors", "pt") as file:
        said = file.metadata()
    assert said["ss_network_dim"] == "2" and float(said["ss_network_alpha"]) == pytest.approx(3 * math.sqrt(2 / 6), rel=1e-4)
    assert said["ss_network_module"] == "networks.lora" and said["ss_training_comment"] == "rank 2 of a DyLoRA of rank 6"


def test_the_extractions_options_act_and_are_checked(unet, tmp_path: Path, capsys) -> None:
    model = tmp_path / "dy.safetensors"
    dy(unet).save_weights(model, None, None)
    command = ("--model", model, "--save_to", tmp_path / "r.safetensors")
    assert run_in_process(extract, *command, "--rank", 1, 5, "--save_precision", "fp16") == 0
    with safe_open(tmp_path / "r-5.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys() if "alpha" not in name} == {torch.float16}  # noqa: SIM118
    for options, asked in (
        ((), ("OPT-008", "--unit, --rank")),
        (("--rank", 7), ("OPT-006", "--rank 7", "rank is 6")),
        (("--unit", 6), ("OPT-006", "--unit 6", "rank is 6")),
    ):
        assert run_in_process(extract, *command, *options) == 2
        refusal(capsys.readouterr().err, *asked)


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ({"unit": "4"}, ("LORA-008", "unit=4", "rank 6")),
        ({"unit": "0"}, ("LORA-008", "unit=0", "at least 1")),
        ({"unit": "x"}, ("LORA-008", "unit=x", "whole number")),
        ({"unit": "2", "conv_dim": "3"}, ("LORA-008", "unit=2", "rank 3")),
        ({"unti": "2"}, ("LORA-007", "unti")),
    ],
)
def test_wrong_units_are_told_in_one_line(unet, args: dict[str, str], asked: tuple[str, ...]) -> None:
    with refused(*asked):
        dylora.create_network(1.0, 6, 1.0, None, None, unet, **args)


def test_lora_fa_trains_the_ups_alone(unet) -> None:
    network = lora_fa.create_network(1.0, 4, 2.0, None, None, unet, conv_dim="2")
    network.apply_to(None, unet, apply_text_encoder=False)
    trained = {id(parameter) for group in network.prepare_optimizer_params(None, 1.0, None) for parameter in group["params"]}
    assert trained == {id(layer.lora_up.weight) for layer in network.layers().values()}
    assert {id(parameter) for parameter in network.get_trainable_params()} == trained
    run_unet(unet).square().sum().backward()
    assert all(layer.lora_down.weight.grad is None and layer.lora_up.weight.grad is not None for layer in network.layers().values())


def test_limiting_norms_leaves_the_frozen_downs_alone(unet) -> None:
    network = lora_fa.create_network(1.0, 4, 2.0, None, None, unet)
    randomize(network)
    downs = {key: layer.lora_down.weight.clone() for key, layer in network.layers().items()}
    scaled, _, largest = network.apply_max_norm_regularization(0.1)
    assert scaled == len(downs) and largest == pytest.approx(0.1, rel=1e-4)
    for key, layer in network.layers().items():
        assert torch.equal(layer.lora_down.weight, downs[key])
        assert float(layer.delta_weight().norm()) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("module", [dylora, lora_fa])
def test_their_files_are_ordinary_loras_and_load_back(module, unet, tmp_path: Path) -> None:
    network = module.create_network(1.0, 4, 2.0, None, None, unet)
    randomize(network)
    network.save_weights(tmp_path / "x.safetensors", None, None)
    for reader in (module, lora):
        loaded, _ = reader.create_network_from_weights(1.0, tmp_path / "x.safetensors", None, None, unet)
        assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())
