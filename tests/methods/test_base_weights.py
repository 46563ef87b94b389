"""--base_weights: each file is merged into the model as strongly as --base_weights_multiplier says, before the network is put onto it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from library.methods.network import NetworkMethod
from library.methods.network_settings import network_settings
from library.model.load import load
from library.options.declare import build
from library.options.groups.scripts import TrainNetwork
from networks.lora import create_network
from tests.networks.models import randomize


@pytest.mark.parametrize(("given", "meant"), [((), (1.0, 1.0)), ((0.5,), (0.5, 1.0)), ((0.5, -0.25), (0.5, -0.25))])
def test_each_file_has_its_multiplier_and_1_where_none_is_left(given: tuple, meant: tuple, tiny_v1: Path, tmp_path: Path) -> None:
    model, merged = load(tiny_v1), load(tiny_v1)
    files = []
    for number in range(2):
        network = create_network(1.0, 2, 1, None, model.text_encoder, model.unet)
        randomize(network, seed=number, deviation=0.1)
        files.append(tmp_path / f"{number}.safetensors")
        network.save_weights(files[-1], None, None)
    values = {"network_module": "networks.lora", "base_weights": tuple(map(str, files)), "base_weights_multiplier": given}
    NetworkMethod(network_settings(build(TrainNetwork, values, {}))).attach(merged)
    for part in ("text_encoder", "unet"):
        layers, others = dict(getattr(model, part).named_modules()), dict(getattr(merged, part).named_modules())
        place = "encoder.layers.1.mlp.fc1" if part == "text_encoder" else "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
        key = f"lora_{'te_text_model' if part == 'text_encoder' else 'unet'}_{place.replace('.', '_')}"
        expected = layers[place].weight.double()
        for number, multiplier in enumerate(meant):
            network = create_network(1.0, 2, 1, None, model.text_encoder, model.unet)
            network.load_weights(files[number])
            layer = network.get_submodule(key)
            expected = expected + multiplier * 0.5 * layer.lora_up.weight.double() @ layer.lora_down.weight.double()  # alpha/rank
        torch.testing.assert_close(others[place].weight.double(), expected, rtol=1e-5, atol=1e-6)
        assert not others[place].weight.requires_grad
