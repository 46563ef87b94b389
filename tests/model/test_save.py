"""Saving: an unchanged model gives back every tensor bit for bit, a changed one what was trained and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.make_model import write
from library.model.load import load
from library.model.save import save_checkpoint
from tests.small_models import SMALL, write_checkpoint


def _read(path):
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)["state_dict"]


def _assert_same(left, right):
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert (tensor.dtype, tensor.shape) == (right[name].dtype, right[name].shape), name
        assert tensor.equal(right[name]), name


def _with_extras(path):
    """The checkpoint with what real files carry besides: EMA weights, other dtypes, names from who knows where."""
    state = load_file(path)
    name = "model.diffusion_model.time_embed.0.weight"
    state["model_ema.diffusion_modeltime_embed0weight"] = state[name].float() + 1
    state["first_stage_model.loss.logvar"] = torch.zeros(())
    state["loss/odd name"] = torch.tensor([1, 2, 3], dtype=torch.int16)
    state["flag"] = torch.tensor([True, False])
    state["empty"] = torch.zeros(0, 3)
    state[name] = state[name].float() + 1e-6  # one tensor of another precision than its neighbours
    return state


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("source", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("target", [".safetensors", ".ckpt"])
def test_loading_and_saving_gives_back_every_tensor_bit_for_bit(version, source, target, checkpoints, tmp_path):
    state = _with_extras(checkpoints[version])
    path = tmp_path / f"source{source}"
    save_file(state, path) if source == ".safetensors" else torch.save({"state_dict": state}, path)
    model = load(path, v2=version == "v2")
    save_checkpoint(model, tmp_path / f"target{target}")
    _assert_same(_read(tmp_path / f"target{target}"), state)


def test_old_names_without_the_text_model_level_come_back_too(checkpoints, tmp_path):
    state = {name.replace("transformer.text_model.", "transformer."): value for name, value in load_file(checkpoints["v1"]).items()}
    save_file(state, tmp_path / "old.safetensors")
    save_checkpoint(load(tmp_path / "old.safetensors"), tmp_path / "new.safetensors")
    _assert_same(_read(tmp_path / "new.safetensors"), state)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_full_size_checkpoint_comes_back_bit_for_bit(version, tmp_path):
    write(tmp_path / "source.safetensors", version, "full")
    save_checkpoint(load(tmp_path / "source.safetensors", v2=version == "v2"), tmp_path / "target.safetensors")
    with safe_open(tmp_path / "source.safetensors", "pt") as source, safe_open(tmp_path / "target.safetensors", "pt") as target:
        assert set(source.keys()) == set(target.keys())
        for name in source.keys():  # noqa: SIM118  (safe_open is no mapping)
            left, right = source.get_tensor(name), target.get_tensor(name)
            assert left.dtype == right.dtype and left.equal(right), name


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_trained_weights_are_saved_and_the_rest_is_left_alone(version, checkpoints, tmp_path):
    model = load(checkpoints[version], v2=version == "v2")
    with torch.no_grad():
        model.unet.conv_in.weight.add_(1)
        model.text_encoder.encoder.layers[0].self_attn.k_proj.weight.mul_(2)
    save_checkpoint(model, tmp_path / "trained.safetensors")
    before, after = load_file(checkpoints[version]), load_file(tmp_path / "trained.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    text = {
        "v1": "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.k_proj.weight",
        "v2": "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight",
    }[version]
    assert changed == {"model.diffusion_model.input_blocks.0.0.weight", text}
    if version == "v2":  # only the middle third, the keys
        rows = (before[text] != after[text]).any(dim=1).nonzero().flatten()
        assert rows.min() == 128 and rows.max() == 255


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_save_precision_applies_to_networks_and_not_to_schedules(dtype, checkpoints, tmp_path):
    state = _with_extras(checkpoints["v1"])
    save_file(state, tmp_path / "source.safetensors")
    save_checkpoint(load(tmp_path / "source.safetensors"), tmp_path / "target.safetensors", dtype)
    saved = load_file(tmp_path / "target.safetensors")
    for name, tensor in state.items():
        network = name.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "model_ema.diff"))
        expected = dtype if network and tensor.is_floating_point() and tensor.ndim else tensor.dtype
        assert saved[name].dtype == expected, name
        assert saved[name].equal(tensor.to(expected)), name


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_diffusers_model_becomes_a_file_that_diffusers_and_we_read(version, folders, models, checkpoints, tmp_path):
    from diffusers import StableDiffusionPipeline

    path = tmp_path / "from-folder.safetensors"
    save_checkpoint(load(folders[version], v2=version == "v2"), path, torch.float16)
    again = load(path, v2=version == "v2")
    theirs = StableDiffusionPipeline.from_single_file(path, config=str(folders[version]), local_files_only=True, torch_dtype=torch.float32)
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(models[version], part).state_dict()
        _assert_same(getattr(again, part).state_dict(), expected)
        _assert_same(getattr(theirs, part).state_dict(), expected)
    # All names that a file made for the original implementation has, but for schedules and counters, which programs make themselves.
    names = {name for name in load_file(checkpoints[version]) if name.startswith(("model.", "first_stage_model.", "cond_stage_model."))}
    shapes = {name: tensor.shape for name, tensor in load_file(checkpoints[version]).items()}
    saved = load_file(path)
    assert set(saved) == names and all(saved[name].shape == shapes[name] for name in names)


@pytest.mark.parametrize("larger", ["the model's own", "the other"])
def test_another_vae_goes_into_the_saved_model(larger, checkpoints, tmp_path):
    size = replace(SMALL["v1"], vae_widths=(32, 64, 64, 64), vae_layers=2)
    own, other = checkpoints["v1"], write_checkpoint(tmp_path / "other.safetensors", seed=5, size=size)
    if larger == "the model's own":
        own, other = other, own
    save_checkpoint(load(own, vae=other), tmp_path / "saved.safetensors", torch.float16)
    saved, base, vae = load_file(tmp_path / "saved.safetensors"), load_file(own), load_file(other)
    rest = {name: value for name, value in base.items() if not name.startswith("first_stage_model.")}
    _assert_same(saved, rest | {name: value for name, value in vae.items() if name.startswith("first_stage_model.")})


@pytest.mark.parametrize(("version", "fate"), [("v1", "changed"), ("v2", "gone")])
def test_a_source_file_that_is_no_longer_there_does_not_lose_the_training(version, fate, tmp_path, heard):
    path = write_checkpoint(tmp_path / "source.safetensors", version)
    model = load(path, v2=version == "v2")
    path.unlink() if fate == "gone" else write_checkpoint(path, version, seed=3)
    save_checkpoint(model, tmp_path / "saved.safetensors")
    assert "source.safetensors" in heard.text
    again = load(tmp_path / "saved.safetensors", v2=version == "v2")
    _assert_same(again.unet.state_dict(), model.unet.state_dict())
    _assert_same(again.text_encoder.state_dict(), model.text_encoder.state_dict())


def test_saving_over_the_source_keeps_what_passes_through(tmp_path):
    path = write_checkpoint(tmp_path / "source.safetensors")
    state = safetensors.torch.load(path.read_bytes())  # not mapped: Windows would let nothing take its place
    model = load(path)
    for _ in range(2):
        save_checkpoint(model, path)
        _assert_same(load_file(path), state)


def test_metadata_is_written_or_kept_from_the_source(checkpoints, tmp_path):
    def metadata(path):
        with safe_open(path, "pt") as file:
            return file.metadata()

    save_file(load_file(checkpoints["v1"]), tmp_path / "source.safetensors", {"modelspec.title": "mine"})
    model = load(tmp_path / "source.safetensors")
    save_checkpoint(model, tmp_path / "kept.safetensors")
    assert metadata(tmp_path / "kept.safetensors") == {"format": "pt", "modelspec.title": "mine"}
    save_checkpoint(model, tmp_path / "new.safetensors", metadata={"ss_steps": "10", "日本": "語"})
    assert metadata(tmp_path / "new.safetensors") == {"format": "pt", "ss_steps": "10", "日本": "語"}


def test_a_failing_save_leaves_the_old_file_and_nothing_else(checkpoints, tmp_path, monkeypatch):
    import library.model.save as room

    def fail(*args, **kwargs):
        raise OSError("disk full")

    path = tmp_path / "model.safetensors"
    path.write_bytes(b"good")
    monkeypatch.setattr(room.convert, "to_original", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(load(checkpoints["v1"]), path)
    assert path.read_bytes() == b"good" and [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
