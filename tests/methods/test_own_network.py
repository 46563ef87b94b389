"""A network module of the user that has no more than it must: it trains and saves, and what it lacks is reported by option."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import train_network
from library.methods.network import NetworkMethod
from tests.messages import refusal
from tests.scripts.starting import dataset, start

NAME = "a_network_of_ones_own"


class Shift(nn.Module):
    """Adds a trained number to the noise that the U-Net predicts; the other one has no learning rate."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.shift, self.still = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))
        self.epochs = 0

    def apply_to(self, text_encoder: nn.Module, unet: nn.Module, apply_text_encoder: bool, apply_unet: bool) -> None:
        unet.conv_out.register_forward_hook(lambda module, inputs, output: output + self.shift * self.still)

    def prepare_optimizer_params(self, text_encoder_lr: float, unet_lr: float, learning_rate: float) -> list[dict]:
        return [{"params": iter([self.shift]), "lr": learning_rate}, {"params": [self.still], "lr": 0.0}]

    def on_epoch_start(self, text_encoder: nn.Module, unet: nn.Module) -> None:
        self.epochs += 1

    def save_weights(self, file: str, dtype: torch.dtype | None, metadata: dict | None) -> None:
        torch.save(self.state_dict() | {"epochs": torch.tensor(self.epochs)}, file)


@pytest.fixture
def options(tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Of a run with the network; the module is importable."""
    module = ModuleType(NAME)
    module.create_network = lambda multiplier, dim, alpha, vae, text_encoder, unet, **args: Shift(unet)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NAME, module)
    monkeypatch.setattr("library.options.rules.model_rules.is_module", lambda name: True)
    return {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos, batch_size=9),
        "output_dir": tmp_path,
        "network_module": NAME,
        "save_model_as": "pt",
        "learning_rate": 0.1,
        "max_train_epochs": 2,
        "max_data_loader_n_workers": 0,
        "seed": 1,
    }


def test_it_trains_is_told_of_epochs_and_what_has_no_rate_costs_no_gradient(options, tmp_path: Path, monkeypatch) -> None:
    asked = []
    attach = NetworkMethod.attach
    monkeypatch.setattr(NetworkMethod, "attach", lambda self, model: (attach(self, model), asked.append(self.network.module)))
    assert start(train_network.main, **options) == 0
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    assert saved["shift"] != 0 and saved["still"] == 1 and saved["epochs"] == 2
    assert asked[0].shift.requires_grad and not asked[0].still.requires_grad


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"network_weights": "tiny"}, ("--network_weights:", "load_weights", f"--network_module {NAME}", "networks.lora")),
        ({"network_weights": "tiny", "dim_from_weights": True}, ("--dim_from_weights:", "create_network_from_weights")),
        ({"base_weights": "tiny"}, ("--base_weights:", "create_network_from_weights")),
        ({"scale_weight_norms": 1}, ("--scale_weight_norms:", "apply_max_norm_regularization")),
        ({"network_module": "json"}, ("--network_module json:", "create_network", "networks.lora")),
    ],
)
def test_what_it_lacks_is_told_in_one_line(options, changes: dict, names: tuple[str, ...], capsys) -> None:
    changes = {name: options["pretrained_model_name_or_path"] if value == "tiny" else value for name, value in changes.items()}
    assert start(train_network.main, **{**options, **changes}) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusal(line, "LORA-010", *names)
