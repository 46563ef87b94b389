"""A network module of another package: LyCORIS trains, saves under the names that programs know, continues, and reads its files."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import train_network
from library.lora.files import model_hashes
from library.methods.network import NetworkMethod
from library.methods.network_settings import network_settings
from library.model.load import load
from library.options.declare import build
from library.options.groups.scripts import TrainNetwork
from tests.messages import message, refusal
from tests.oracles import our_image
from tests.scripts.starting import dataset, start

lycoris = pytest.importorskip("lycoris.kohya")
logging.getLogger("LyCORIS").setLevel(logging.ERROR)

PROMPT = "a photo of a cat"


@pytest.fixture(scope="module")
def command(tiny_v1: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Options of a short LoHa training."""
    folder = tmp_path_factory.mktemp("lycoris")
    return {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(folder / "data.toml", photos),
        "output_dir": folder,
        "network_module": "lycoris.kohya",
        "network_args": ["algo=loha", "conv_dim=4", "conv_alpha=4"],  # alpha = dim: its LoHa forgets the scale in training otherwise
        "network_dim": 4,
        "network_alpha": 4,
        "max_train_steps": 2,
        "learning_rate": 1.0,
        "optimizer_type": "SGD",
        "max_data_loader_n_workers": 0,
        "seed": 1,
    }


@pytest.fixture(scope="module")
def trained(command: dict[str, object]) -> Path:
    assert start(train_network.main, **command) == 0
    return Path(command["output_dir"]) / "last.safetensors"


def test_its_tensors_have_the_names_that_other_programs_know(trained: Path, tiny_v1: Path) -> None:
    names = set(load_file(trained))
    layer = "lora_te_text_model_encoder_layers_1_mlp_fc2"
    assert {f"{layer}.hada_w1_a", f"{layer}.alpha", "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.hada_w2_b"} <= names
    assert not any(name.startswith("lora_te_encoder") for name in names)
    assert [path.name for path in trained.parent.iterdir() if path.name.startswith(".")] == []


def test_its_files_have_the_hashes_that_our_own_have(trained: Path) -> None:
    with safe_open(trained, "pt") as file:
        said = file.metadata()
    expected = model_hashes(load_file(trained), said)
    assert {key: said[key] for key in said if key.startswith("sshs_")} == expected
    assert said["modelspec.hash_sha256"] == "0x" + expected["sshs_model_hash"]
    assert said["ss_network_module"] == "lycoris.kohya"


@pytest.mark.parametrize("form", ["PEFT", "a pickle under state_dict", "with an embedding", "a DoRA of PEFT"])
def test_files_of_every_form_go_in_as_base_weights(form: str, tiny_v1: Path, tmp_path: Path) -> None:
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    key, file = "lora_unet_" + path.replace(".", "_"), tmp_path / "x.safetensors"
    weight = load(tiny_v1).unet.get_submodule(path).weight.detach()
    torch.manual_seed(0)
    down, up = torch.randn(2, weight.shape[1]) * 0.1, torch.randn(weight.shape[0], 2) * 0.1
    expected = weight + 0.5 * up @ down
    settings = {"r": 2, "lora_alpha": 1}
    if form == "with an embedding":
        plain = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(1.0)}
        save_file(plain | {"bundle_emb.x.emb_params": torch.ones(2, 4)}, file)
    else:
        theirs = {f"unet.{path}.lora_A.weight": down, f"unet.{path}.lora_B.weight": up}
        if "DoRA" in form:
            theirs[f"unet.{path}.lora_magnitude_vector"] = torch.rand(len(weight)) + 0.5
            expected = expected * (theirs[f"unet.{path}.lora_magnitude_vector"] / expected.norm(dim=1))[:, None]
        if "pickle" in form:
            theirs[f"unet.{path}.alpha"] = torch.tensor(1.0)
            file = tmp_path / "x.pt"
            torch.save({"state_dict": theirs}, file)
        else:
            save_file(theirs, file, {"lora_adapter_metadata": json.dumps({f"unet.{name}": value for name, value in settings.items()})})
    model = load(tiny_v1)
    values = {
        "network_module": "lycoris.kohya",
        "base_weights": (str(file),),
        "base_weights_multiplier": (0.25,),
        "network_args": ("algo=lora",),
        "network_dim": 2,
    }
    NetworkMethod(network_settings(build(TrainNetwork, values, {}))).attach(model)
    merged = model.unet.get_submodule(path).weight.detach()
    torch.testing.assert_close(merged, weight + 0.25 * (expected - weight), rtol=1e-4, atol=1e-5)


def test_a_file_of_another_shape_or_kind_is_one_line(command: dict[str, object], tiny_v1: Path, tmp_path: Path, capsys) -> None:
    small = {**command, "network_args": ["algo=locon", "conv_dim=2"], "output_dir": tmp_path}
    assert start(train_network.main, **{**small, "max_train_steps": 1}) == 0
    capsys.readouterr()
    large = {**command, "network_args": ["algo=locon"], "output_dir": tmp_path, "network_weights": tmp_path / "last.safetensors"}
    assert start(train_network.main, **large) == 2
    assert start(train_network.main, **{**command, "base_weights": tiny_v1}) == 2
    first, second = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    message(first, "--network_weights", "last.safetensors", "lycoris.kohya", "RuntimeError", "size mismatch", "[SD-LORA-011]")
    assert len(first) < 600
    refusal(second, "LORA-003", "--base_weights", tiny_v1, "lycoris.kohya")


def test_training_goes_on_from_its_file(command: dict[str, object], trained: Path) -> None:
    still = {**command, "network_weights": trained, "learning_rate": 0, "output_name": "again"}
    assert start(train_network.main, **still) == 2  # nothing is left to train at a rate of 0
    assert start(train_network.main, **{**still, "learning_rate": 1e-12}) == 0
    first, again = load_file(trained), load_file(trained.with_name("again.safetensors"))
    assert first.keys() == again.keys() and all(tensor.allclose(again[name], atol=1e-6) for name, tensor in first.items())


def test_lycoris_reads_the_file_and_the_image_is_the_same(command: dict[str, object], trained: Path, tiny_v1: Path) -> None:
    from library.methods.network_settings import network_settings
    from library.options.groups.scripts import TrainNetwork
    from library.options.reading.parse import parse

    argv = ["--network_module", "lycoris.kohya", "--network_dim", "4", "--network_alpha", "4", "--network_weights", str(trained)]
    options = parse(TrainNetwork, [*argv, "--network_args", *command["network_args"]])
    hooked, merged = load(tiny_v1), load(tiny_v1)
    without = our_image(merged, PROMPT)
    NetworkMethod(network_settings(options)).attach(hooked)
    level = torch.nn.Module()
    level.text_model = merged.text_encoder
    network, weights = lycoris.create_network_from_weights(1.0, str(trained), merged.vae, level, merged.unet, for_inference=True)
    network.merge_to(level, merged.unet, weights, torch.float32, "cpu")
    ours, theirs = our_image(hooked, PROMPT), our_image(merged, PROMPT)
    assert np.abs(ours - theirs).max() <= 1 and np.abs(ours - without).max() > 1


def test_what_it_cannot_make_is_told_in_one_line(command: dict[str, object], capsys: pytest.CaptureFixture) -> None:
    assert start(train_network.main, **{**command, "network_args": ["algo=lohaa"]}) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    refusal(line, "LORA-011", "error: --network_module lycoris.kohya", "--network_args")
