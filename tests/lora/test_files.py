"""Which LoRA files are taken, what is said of the others, and the hashes that web UIs look up."""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from networks.lora import create_network, create_network_from_weights
from tests.messages import message, refused
from tests.networks.models import full_size, randomize, run_unet, tiny_text_encoder, tiny_unet


@pytest.fixture
def models():
    return tiny_text_encoder(), tiny_unet()


def _saved(models, path, dim=4, alpha=2.0, metadata=None, **args):
    network = create_network(1.0, dim, alpha, None, *models, **args)
    randomize(network)
    network.save_weights(path, None, metadata)
    return network


def test_hashes_are_those_of_the_file_behind_its_header(models, tmp_path):
    big = create_network(1.0, 2000, 1, None, *models)  # over 1 MiB, where the short hash looks
    randomize(big)
    path = tmp_path / "a.safetensors"
    big.save_weights(path, None, {"ss_network_dim": "4", "ss_seed": 3})
    data = path.read_bytes()
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == "4" and metadata["ss_seed"] == "3"
    body = data[8 + int.from_bytes(data[:8], "little") :]
    assert metadata["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
    # The short one reads 64 KiB at 1 MiB of the same file without the hashes themselves.
    save_file(big.state_dict(), tmp_path / "b.safetensors", {"ss_network_dim": "4", "ss_seed": "3"})
    assert metadata["sshs_legacy_hash"] == hashlib.sha256((tmp_path / "b.safetensors").read_bytes()[1 << 20 :][: 1 << 16]).hexdigest()[:8]


def test_notes_beside_the_training_metadata_do_not_change_the_hashes(models, tmp_path):
    hashes = []
    for name, notes in (("a", {"ss_x": "1"}), ("b", {"ss_x": "1", "title": "mine"})):
        torch.manual_seed(0)
        _saved(models, tmp_path / f"{name}.safetensors", dim=2000, metadata=notes)  # over 1 MiB
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            hashes.append({key: value for key, value in file.metadata().items() if key.startswith("sshs")})
    assert hashes[0] == hashes[1] and set(hashes[0]) == {"sshs_model_hash", "sshs_legacy_hash"}


def test_sizes_are_read_from_the_file_module_by_module(models, tmp_path):
    path = tmp_path / "a.safetensors"
    dims = ",".join(["2"] * 12 + ["0"] + ["5"] * 12)
    _saved(models, path, dim=3, alpha=1.5, conv_dim="6", conv_alpha="3", block_dims=dims)
    network, _ = create_network_from_weights(1.0, str(path), None, *models, rank_dropout="0.1", neuron_dropout=0.2)
    layers = network.layers()
    assert {layer.rank for key, layer in layers.items() if "_up_blocks_" in key} == {5, 6}
    assert {(layer.rank, layer.scale) for key, layer in layers.items() if key.startswith("lora_te_")} == {(3, 0.5)}
    assert {(layer.dropouts.rank, layer.dropouts.neuron) for layer in layers.values()} == {(0.1, 0.2)}


def test_a_file_without_alphas_has_alpha_equal_to_the_rank(models, tmp_path):
    network = _saved(models, tmp_path / "a.safetensors", alpha=1)
    weights = {key: value for key, value in network.state_dict().items() if not key.endswith(".alpha")}
    loaded, _ = create_network_from_weights(1.0, None, None, *models, weights)
    assert {layer.scale for layer in loaded.layers().values()} == {1.0}


def test_loading_takes_over_the_files_alpha(models, tmp_path):
    saved = _saved(models, tmp_path / "a.safetensors", alpha=3.0)
    network = create_network(1.0, 4, 1, None, *models)
    report = network.load_weights(tmp_path / "a.safetensors")
    assert {layer.scale for layer in network.layers().values()} == {0.75} and "modules loaded" in report
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in saved.state_dict().items())


def test_a_part_of_the_file_that_is_not_trained_is_left_out_and_told(models, tmp_path, heard):
    _saved(models, tmp_path / "a.safetensors")
    network = create_network(1.0, 4, 1, None, *models)
    network.apply_to(*models, apply_text_encoder=False, apply_unet=True)
    network.load_weights(tmp_path / "a.safetensors")
    assert "12 of its" in heard.text


def test_a_file_with_convolutions_goes_on_in_its_text_encoder_alone(models, tmp_path, heard):
    _saved(models, tmp_path / "a.safetensors", conv_dim="4")
    network = create_network(1.0, 4, 1, None, *models, conv_dim="4")
    network.apply_to(*models, apply_text_encoder=True, apply_unet=False)
    assert "12 of 12 modules loaded" in network.load_weights(tmp_path / "a.safetensors")
    message(heard.lines, "are ignored", "not trained")


def test_modules_outside_of_the_blocks_are_read_from_files_and_never_made_anew(models, tmp_path):
    """As LyCORIS' LoCon of a whole U-Net has them; they act, have the rate of the U-Net itself, and stay in the file."""
    outside = {
        "conv_in": (4, 16, 3),
        "conv_out": (16, 4, 3),
        "time_embedding_linear_1": (16, 64, 0),
        "time_embedding_linear_2": (64, 64, 0),
    }
    new = create_network(1.0, 4, 1, None, *models, conv_dim="4")
    assert not [key for key in new.layers() if key.removeprefix("lora_unet_") in outside]
    weights = {key: value for key, value in new.state_dict().items()}
    for name, (inputs, outputs, kernel) in outside.items():
        shapes = ((2, inputs, kernel, kernel), (outputs, 2, 1, 1)) if kernel else ((2, inputs), (outputs, 2))
        for kind, shape in zip(("lora_down", "lora_up"), shapes, strict=True):
            weights[f"lora_unet_{name}.{kind}.weight"] = torch.full(shape, 0.5)
    before = run_unet(models[1])
    network, _ = create_network_from_weights(1.0, None, None, *models, weights, down_lr_weight="zeros", mid_lr_weight="0.5")
    network.apply_to(*models)
    assert (run_unet(models[1]) - before).abs().max() > 0.1
    groups = {group["name"]: group for group in network.prepare_optimizer_params(None, 1e-3, None)}
    assert groups["unet_outside_blocks"]["lr"] == 1e-3 and len(groups["unet_outside_blocks"]["params"]) == 8
    assert not [name for name in groups if "IN" in name] and groups["unet_MID"]["lr"] == 5e-4
    network.save_weights(tmp_path / "b.safetensors", None, None)
    assert {key.removeprefix("lora_unet_").partition(".")[0] for key in load_file(tmp_path / "b.safetensors")} >= outside.keys()


def test_a_file_of_other_ranks_is_refused_with_the_remedy(models, tmp_path):
    _saved(models, tmp_path / "a.safetensors", dim=8)
    with refused("LORA-004", tmp_path / "a.safetensors", "8, here 4", "--dim_from_weights"):
        create_network(1.0, 4, 1, None, *models).load_weights(tmp_path / "a.safetensors")


def test_a_file_with_convolutions_is_refused_by_a_network_without(models, tmp_path):
    _saved(models, tmp_path / "a.safetensors", conv_dim="4")
    with refused("LORA-003", tmp_path / "a.safetensors", "convolutions", "--dim_from_weights", "conv_dim=…"):
        create_network(1.0, 4, 1, None, *models).load_weights(tmp_path / "a.safetensors")


def test_a_file_for_sd2_is_refused_on_sd1(tmp_path):
    create_network(1.0, 1, 1, None, *full_size("v2")).save_weights(tmp_path / "v2.safetensors", torch.float16, None)
    with refused("LORA-003", tmp_path / "v2.safetensors"):  # it has 23 text layers, v1 has 12
        create_network(1.0, 1, 1, None, *full_size("v1")).load_weights(tmp_path / "v2.safetensors")
    network = create_network(1.0, 1, 1, None, None, full_size("v2")[1])
    network.save_weights(tmp_path / "unet.safetensors", torch.float16, None)
    for load in (
        lambda: create_network(1.0, 1, 1, None, *full_size("v1")).load_weights(tmp_path / "unet.safetensors"),
        lambda: create_network_from_weights(1.0, tmp_path / "unet.safetensors", None, *full_size("v1")),
    ):
        with refused("LORA-005", tmp_path / "unet.safetensors", "SD 2.x"):
            load()


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["lora_te1_text_model_encoder_layers_0_mlp_fc1.{}"], ("LORA-003", "lora_te1_text_model_encoder_layers_0_mlp_fc1", "SDXL")),
        (["lora_unet_down_blocks_0_attentions_0_proj_in.hada_w1_a"], ("LORA-001", "LoHa")),
        (["transformer.transformer_blocks.0.attn.to_q.lora_A.weight"], ("LORA-001", "another family")),
        (["lora_unet_mid_block_attentions_0_norm.w_norm"], ("LORA-001", "norms", "lycoris.kohya")),
        (["unet.mid_block.attentions.0.proj_in.lora_magnitude_vector"], ("LORA-001", "DoRA of PEFT")),
        (["lora_unet_mid_block_attentions_0_proj_in.oft_blocks"], ("LORA-001", "OFT or BOFT", "lycoris.kohya")),
        (["unet:0:up"], ("LORA-001", "cloneofsimo")),
        (["model.diffusion_model.input_blocks.0.0.weight"], ("LORA-001", "whole model")),
        (["something.weight"], ("LORA-001", "something.weight", "networks.lora")),
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight"], ("LORA-002", "lora_unet_down_blocks_0_attentions_0_proj_in")),
        ([], ("FILE-008",)),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(models, tmp_path, names, asked):
    full = [name.format(part) for name in names for part in ("lora_up.weight", "lora_down.weight")]
    save_file({name: torch.zeros(2, 2) for name in full}, tmp_path / "x.safetensors")
    for load in (
        lambda: create_network(1.0, 4, 1, None, *models).load_weights(tmp_path / "x.safetensors"),
        lambda: create_network_from_weights(1.0, tmp_path / "x.safetensors", None, *models),
    ):
        with refused(*asked, tmp_path / "x.safetensors"):
            load()


def test_missing_broken_and_dangerous_files_are_refused(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"not at all")
    marker = tmp_path / "ran"

    class Runs:
        def __reduce__(self):
            return (marker.touch, ())

    torch.save({"a": Runs()}, tmp_path / "dangerous.pt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    for name, code in (
        ("missing.safetensors", "PATH-001"),
        ("broken.safetensors", "FILE-005"),
        ("dangerous.pt", "FILE-006"),
        ("list.ckpt", "FILE-006"),
    ):
        with refused(code, tmp_path / name) as error:
            create_network_from_weights(1.0, tmp_path / name, None, None, None)
        assert all("\n" not in problem for problem in error.value.problems)
    assert not marker.exists()


def test_a_failed_save_leaves_the_good_file(models, tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    network = _saved(models, path)
    good = path.read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError):
        network.save_weights(path, torch.float16, None)
    assert path.read_bytes() == good and [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    with refused("FILE-007", tmp_path / "a.bin", ".safetensors"):
        network.save_weights(tmp_path / "a.bin", None, None)
