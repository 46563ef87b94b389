"""Loading: every layout gives the same model, nothing in a file is executed, what does not fit is reported in one line."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from library.model.family import V1
from library.model.load import load, load_vae
from tests.messages import refused
from tests.small_models import SMALL, write_checkpoint, write_diffusers

PARTS = ("unet", "vae", "text_encoder")


def _same(left, right, parts=PARTS) -> bool:
    states = [(getattr(left, part).state_dict(), getattr(right, part).state_dict()) for part in parts]
    return all(a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a) for a, b in states)


@pytest.fixture(scope="module")
def pipelines(checkpoints, folders):
    """The checkpoints as diffusers alone reads them."""
    from diffusers import StableDiffusionPipeline

    return {
        version: StableDiffusionPipeline.from_single_file(
            path, config=str(folders[version]), local_files_only=True, torch_dtype=torch.float32
        )
        for version, path in checkpoints.items()
    }


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_checkpoint_gives_the_tensors_that_diffusers_finds_in_it(version, models, pipelines):
    assert _same(models[version], pipelines[version])


@pytest.mark.parametrize("version", ["v1", "v2"])
@torch.no_grad()
def test_a_checkpoint_computes_what_diffusers_computes(version, models, pipelines):
    ours, theirs = models[version], pipelines[version]
    ids = ours.tokenizer("a photo of a cat")[0][None]
    context = ours.encode(ids).context
    torch.testing.assert_close(context, theirs.text_encoder(ids[:, 0]).last_hidden_state)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    context = context.expand(2, -1, -1)
    torch.testing.assert_close(ours.unet(latents, 300, context).sample, theirs.unet(latents, 300, context).sample)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distribution = theirs.vae.encode(images).latent_dist
    torch.testing.assert_close(ours.moments(images), torch.cat([distribution.mean, distribution.logvar], dim=1))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_ckpt_gives_the_same_model(version, models, tmp_path):
    path = write_checkpoint(tmp_path / "model.ckpt", version)
    assert _same(load(path, v2=version == "v2"), models[version])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_diffusers_folder_gives_the_same_model(version, models, folders):
    assert _same(load(folders[version], v2=version == "v2"), models[version])


def test_an_old_diffusers_folder_gives_the_same_model(models, tmp_path):
    folder = write_diffusers(tmp_path / "old", safetensors=False)
    path = folder / "vae" / "diffusion_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    names = ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn."))
    for new, old in names:  # as folders of 2022 call them
        state = {name.replace(new, old) if "attentions" in name else name: tensor for name, tensor in state.items()}
    torch.save(state, path)
    assert not list(folder.rglob("*.safetensors"))
    assert _same(load(folder), models["v1"])


def test_an_fp16_variant_is_found(models, tmp_path):
    folder = write_diffusers(tmp_path / "fp16")
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_name(path.stem + ".fp16.safetensors"))
    assert _same(load(folder), models["v1"])


def test_a_file_without_the_text_model_level_gives_the_same_model(checkpoints, models, tmp_path):
    state = {name.replace("transformer.text_model.", "transformer."): value for name, value in load_file(checkpoints["v1"]).items()}
    save_file(state, tmp_path / "old.safetensors")
    assert _same(load(tmp_path / "old.safetensors"), models["v1"])


@pytest.mark.parametrize("form", ["bare", "legacy"])
def test_other_forms_of_ckpt_give_the_same_model(form, checkpoints, models, tmp_path):
    state = load_file(checkpoints["v1"])
    path = tmp_path / "model.ckpt"
    if form == "bare":
        torch.save(state, path)
    else:
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
    assert _same(load(path), models["v1"])


class _Callback:
    """As they are in a Lightning checkpoint: an object of a class that is not installed here."""

    def __init__(self, path):
        self.path = path
        self.table = {"best": Path(path)}


def test_a_lightning_checkpoint_with_objects_of_unknown_classes_loads(checkpoints, models, tmp_path, monkeypatch):
    content = {
        "state_dict": OrderedDict(load_file(checkpoints["v1"])),
        "callbacks": {_Callback: _Callback("x"), "list": [_Callback("y")]},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3)}}}],
        "numbers": __import__("numpy").float64(3.0),
    }
    path = tmp_path / "lightning.ckpt"
    torch.save(content, path)
    monkeypatch.delattr(sys.modules[__name__], "_Callback")
    assert _same(load(path), models["v1"])


class _Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f"{sys.executable} -c \"open(r'{self.marker}', 'w')\"",))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_ckpt_is_never_run(inside, zipped, checkpoints, models, tmp_path):
    marker = tmp_path / "it-ran"
    state = dict(load_file(checkpoints["v1"]))
    content = {"state_dict": state}
    (state if inside else content)["evil"] = _Evil(marker)
    path = tmp_path / "evil.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert _same(load(path), models["v1"])
    assert not marker.exists()
    if inside and zipped:  # the trap is a real one: pickle itself walks into it
        pickle.loads(pickle.dumps(_Evil(marker)))
        assert marker.exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_all_parts_have_the_dtype_asked_for(dtype, checkpoints):
    model = load(checkpoints["v1"], dtype=dtype)
    tensors = [tensor for part in PARTS for tensor in getattr(model, part).state_dict().values()]
    assert {tensor.dtype for tensor in tensors} == {dtype}
    assert all(parameter.requires_grad for part in PARTS for parameter in getattr(model, part).parameters())


def test_no_weight_is_a_view_of_the_file(tmp_path):
    path = write_checkpoint(tmp_path / "model.safetensors", dtype=torch.float32)
    model = load(path)
    before = model.unet.conv_in.weight.clone()
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    assert model.unet.conv_in.weight.equal(before)


def test_missing_tensors_are_told_in_a_line(checkpoints, tmp_path):
    state = load_file(checkpoints["v1"])
    for name in list(state):
        if "time_embed.2" in name:
            del state[name]
    save_file(state, tmp_path / "gap.safetensors")
    with refused("MODEL-010", "gap.safetensors", "2 missing tensors", "time_embedding.linear_2.bias"):
        load(tmp_path / "gap.safetensors")


def test_tensors_of_another_shape_are_told_in_a_line(checkpoints, tmp_path):
    state = load_file(checkpoints["v1"])
    state["model.diffusion_model.time_embed.2.bias"] = torch.zeros(7)
    save_file(state, tmp_path / "odd.safetensors")
    with refused("MODEL-010", "odd.safetensors", "1 tensor", "shape", "time_embedding"):
        load(tmp_path / "odd.safetensors")


@pytest.fixture(scope="module")
def other_vae(tmp_path_factory):
    """A checkpoint with another VAE, and that VAE in each form that --vae takes."""
    folder = tmp_path_factory.mktemp("vae")
    full = write_checkpoint(folder / "full.safetensors", seed=9)
    state = {name.removeprefix("first_stage_model."): value for name, value in load_file(full).items() if name.startswith("first_stage")}
    save_file(state, folder / "alone.safetensors")
    torch.save({"state_dict": state | {"loss.logvar": torch.zeros(())}}, folder / "alone.ckpt")
    diffusers = write_diffusers(folder / "diffusers", seed=9)
    return {
        "full checkpoint": full,
        "file": folder / "alone.safetensors",
        "ckpt": folder / "alone.ckpt",
        "diffusers model": diffusers,
        "diffusers vae": diffusers / "vae",
        "diffusers vae file": diffusers / "vae" / "diffusion_pytorch_model.safetensors",
    }


@pytest.mark.parametrize("form", ["full checkpoint", "file", "ckpt", "diffusers model", "diffusers vae", "diffusers vae file"])
def test_another_vae_replaces_the_models_own(form, other_vae, checkpoints, models):
    model = load(checkpoints["v1"], vae=other_vae[form])
    expected = load(other_vae["full checkpoint"])
    assert _same(model, expected, ("vae",)) and not _same(model, models["v1"], ("vae",))
    assert _same(model, models["v1"], ("unet", "text_encoder"))


def test_a_model_without_vae_loads_when_one_is_given(checkpoints, tmp_path, other_vae):
    state = {name: value for name, value in load_file(checkpoints["v1"]).items() if not name.startswith("first_stage_model.")}
    save_file(state, tmp_path / "bare.safetensors")
    with refused("MODEL-008", "bare.safetensors", "--vae"):
        load(tmp_path / "bare.safetensors")
    assert load(tmp_path / "bare.safetensors", vae=other_vae["file"]).vae is not None


def test_a_file_that_is_no_vae_is_told(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with refused("MODEL-008", "--vae x.safetensors"):
        load_vae(tmp_path / "x.safetensors", torch.float32)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_released_depths_load_too(version, tmp_path):
    from dataclasses import replace

    size = replace(SMALL[version], unet_layers=2, vae_layers=2)
    model = load(write_checkpoint(tmp_path / "deep.safetensors", version, size=size), v2=version == "v2")
    assert [len(block.resnets) for block in model.unet.up_blocks] == [3] * 4
    assert [len(block.attentions) for block in model.unet.down_blocks[:3]] == [2] * 3


def test_loading_opens_no_connection(checkpoints, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert load(checkpoints["v1"]).family is V1


def test_a_scheduler_config_says_what_the_model_predicts(tmp_path):
    folder = write_diffusers(tmp_path / "v", "v2", prediction="v_prediction")
    assert load(folder, v2=True, v_parameterization=True).prediction == "v_prediction"
    said = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    assert said["prediction_type"] == "v_prediction"
    with refused("MODEL-007", "--v_parameterization is missing"):
        load(folder, v2=True)


def test_a_vae_of_another_family_is_told(checkpoints, tmp_path):
    folder = write_diffusers(tmp_path / "xl") / "vae"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"scaling_factor": 0.13025}), encoding="utf-8")
    with refused("MODEL-009", "--vae", folder):
        load(checkpoints["v1"], vae=folder)


def test_eight_bit_floats_load_and_come_back(checkpoints, tmp_path):
    from library.model.save import save_checkpoint

    state = load_file(checkpoints["v1"])
    name = "model.diffusion_model.time_embed.0.weight"
    state[name] = state[name].to(torch.float8_e4m3fn)
    save_file(state, tmp_path / "small.safetensors")
    model = load(tmp_path / "small.safetensors")
    assert model.unet.time_embedding.linear_1.weight.equal(state[name].float())
    save_checkpoint(model, tmp_path / "again.safetensors")
    saved = load_file(tmp_path / "again.safetensors")
    assert saved[name].dtype == torch.float8_e4m3fn and saved[name].float().equal(state[name].float())
