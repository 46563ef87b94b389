"""train_db.py as users run it: what it trains, what it leaves alone, and that other programs read what it writes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_db
from library.model.files import keys
from library.model.load import load
from tests.oracles import our_image, pipeline_image, pipeline_of
from tests.scripts.running import kept
from tests.scripts.starting import dataset, start
from tests.small_models import write_checkpoint, write_diffusers

pytestmark = [pytest.mark.filterwarnings(f"ignore::DeprecationWarning:{package}.*") for package in ("diffusers", "numpy")]

TEXT = ("cond_stage_model.",)
TRAINED_TEXT = ("cond_stage_model.transformer.text_model.encoder", "cond_stage_model.transformer.text_model.final")


@pytest.fixture
def config(tmp_path: Path, photos: Path) -> Path:
    return dataset(tmp_path / "data.toml", photos)


def train(model: Path, config: Path, output: Path, **options: object) -> int:
    """Two quick updates with what all tests share, `options` on top."""
    common: dict[str, object] = {
        "pretrained_model_name_or_path": model,
        "dataset_config": config,
        "output_dir": output,
        "max_train_steps": 2,
        "learning_rate": 1e-3,
        "seed": 1,
        "max_data_loader_n_workers": 0,
        "save_precision": "float",
    }
    return start(train_db.main, **{**common, **options})


def changed(before: Path, after: Path) -> set[str]:
    """Names of the tensors that differ, float32 against float32; the two files must hold the same names."""
    old, new = load_file(before), load_file(after)
    assert old.keys() == new.keys()
    return {name for name, tensor in old.items() if not (tensor.float() if tensor.is_floating_point() else tensor).equal(new[name])}


@pytest.mark.parametrize(("stop", "text_is_trained"), [(None, True), (-1, False)])
def test_only_what_is_trained_changes(tiny_v1: Path, config: Path, tmp_path: Path, stop: int | None, text_is_trained: bool) -> None:
    assert train(tiny_v1, config, tmp_path, stop_text_encoder_training=stop) == 0
    names = changed(tiny_v1, tmp_path / "last.safetensors")
    assert {name for name in names if not name.startswith(keys.UNET)} == {name for name in names if name.startswith(TEXT)}
    assert any(name.startswith(keys.UNET) for name in names)
    everything = {name for name in load_file(tiny_v1) if name.startswith(keys.UNET)}
    assert everything <= names
    assert any(name.startswith(TRAINED_TEXT) for name in names) == text_is_trained


def test_a_stopped_text_encoder_stays_as_it_was_and_costs_nothing(
    tiny_v1: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from library.training import assemble

    made = []
    monkeypatch.setattr(assemble, "make_optimizer", lambda *args, real=assemble.make_optimizer: made.append(real(*args)) or made[-1])
    assert train(tiny_v1, config, tmp_path, stop_text_encoder_training=1, max_train_steps=3, save_every_n_steps=1) == 0
    first = changed(tiny_v1, tmp_path / "at-step00000001.safetensors")
    assert any(name.startswith(TRAINED_TEXT) for name in first)
    later = changed(tmp_path / "at-step00000001.safetensors", tmp_path / "last.safetensors")
    assert later and all(name.startswith(keys.UNET) for name in later)
    unet, text = made[-1].optimizer.param_groups
    assert all(parameter in made[-1].optimizer.state for parameter in unet["params"])
    assert not any(parameter in made[-1].optimizer.state or parameter.grad is not None for parameter in text["params"])


def test_epoch_and_step_go_on_counting_in_a_ckpt(config: Path, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source.ckpt")  # after epoch 1, step 7
    assert train(source, config, tmp_path) == 0
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (content["epoch"], content["global_step"]) == (2, 9)
    assert content["state_dict"].keys() == torch.load(source, weights_only=True)["state_dict"].keys()


@pytest.mark.parametrize(
    ("version", "form", "name"),
    [
        ("v1", "ckpt", "last.ckpt"),
        ("v1", "diffusers", "last"),
        ("v2", "safetensors", "last.safetensors"),
        ("v2", "diffusers_safetensors", "last"),
    ],
)
def test_diffusers_reads_what_is_saved_and_makes_the_same_image(
    version: str, form: str, name: str, tiny_v1: Path, tiny_v2: Path, config: Path, tmp_path: Path
) -> None:
    source = {"v1": tiny_v1, "v2": tiny_v2}[version]
    assert train(source, config, tmp_path / "out", save_model_as=form, v2=version == "v2", save_precision=None) == 0
    configs = None if form.startswith("diffusers") else write_diffusers(tmp_path / "configs", version)
    # a folder comes with the scheduler of the released models: PNDM for v1, DDIM for v2
    theirs = pipeline_image(pipeline_of(tmp_path / "out" / name, configs), "a photo of a cat", own_scheduler=configs is None)
    sampler = "pndm" if configs is None and version == "v1" else "ddim"
    ours = our_image(load(tmp_path / "out" / name, v2=version == "v2"), "a photo of a cat", sampler)
    assert np.abs(ours - theirs).max() <= 1 and ours.std() > 1
    kinds = {path.suffix for path in (tmp_path / "out").rglob("*") if path.suffix in (".bin", ".safetensors", ".ckpt")}
    assert kinds == {{"ckpt": ".ckpt", "diffusers": ".bin"}.get(form, ".safetensors")}


def test_a_diffusers_folder_trains_and_becomes_a_file_with_another_vae_built_in(config: Path, tmp_path: Path) -> None:
    folder = write_diffusers(tmp_path / "model", dtype=torch.float32)
    vae = write_checkpoint(tmp_path / "vae.safetensors", seed=5)
    assert train(folder, config, tmp_path / "out", save_model_as="safetensors", vae=vae, stop_text_encoder_training=-1) == 0
    saved, other = load_file(tmp_path / "out" / "last.safetensors"), load_file(vae)
    for name, tensor in other.items():
        if name.startswith(keys.VAE):
            assert tensor.float().equal(saved[name]), name
    before, after = load(folder), load(tmp_path / "out" / "last.safetensors")
    assert all(tensor.equal(after.text_encoder.state_dict()[name]) for name, tensor in before.text_encoder.state_dict().items())
    assert not before.unet.conv_in.weight.equal(after.unet.conv_in.weight)


def test_the_form_of_the_source_is_kept_and_older_folders_are_removed(config: Path, tmp_path: Path, photos: Path) -> None:
    folder = write_diffusers(tmp_path / "model")
    dataset(config, photos, batch_size=9)
    saves = {"save_every_n_epochs": 1, "save_last_n_epochs": 1}
    assert train(folder, config, tmp_path / "out", use_safetensors=True, max_train_steps=3, **saves) == 0
    assert kept(tmp_path / "out") == ["epoch-000002", "last"]
    assert (tmp_path / "out" / "last" / "unet" / "diffusion_pytorch_model.safetensors").is_file()


def test_regularization_images_count_as_much_as_their_weight_says(tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    config = dataset(tmp_path / "data.toml", photos, batch_size=18)
    shutil.copytree(photos, tmp_path / "reg")
    with config.open("a", encoding="utf-8") as file:
        file.write(f"[[datasets.subsets]]\nimage_dir = '{tmp_path / 'reg'}'\nis_reg = true\n")
    for weight in (0.0, 1.0):
        name = f"weight{weight:g}"
        assert train(tiny_v1, config, tmp_path, output_name=name, prior_loss_weight=weight, max_train_steps=1, optimizer_type="SGD") == 0
    assert changed(tmp_path / "weight0.safetensors", tmp_path / "weight1.safetensors")


def test_captions_without_padding_train_otherwise(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    for padding in (False, True):
        assert train(tiny_v1, config, tmp_path, output_name=f"{padding}", no_token_padding=padding, max_train_steps=1) == 0
    assert changed(tmp_path / "False.safetensors", tmp_path / "True.safetensors")


def test_metadata_is_refused_with_the_script_that_takes_it(tiny_v1: Path, photos: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "meta.json").write_text('{"00_chelsea": {"caption": "a cat"}}', encoding="utf-8")
    config = dataset(tmp_path / "data.toml", photos, subset=f"metadata_file = '{tmp_path / 'meta.json'}'")
    assert train(tiny_v1, config, tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "metadata_file" in line and "fine_tune.py" in line and not (tmp_path / "out").exists()


def test_on_a_cpu_no_forked_worker_takes_a_copy_of_the_trained_weights(
    tiny_v1: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from library.data.loading import loader
    from library.training import batches
    from library.training.step import update

    kept: list[int] = []
    counts: list[int] = []
    monkeypatch.setattr(loader.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(batches, "Workers", lambda count, *more: counts.append(count) or loader.Workers(count, *more))
    monkeypatch.setattr(update, "keep_freed_memory", lambda: kept.append(len(counts)))
    assert train(tiny_v1, config, tmp_path / "forked", max_data_loader_n_workers=1) == 0
    assert kept == [1]  # once, after the first update: the optimizer's states have their place then
    monkeypatch.setattr(batches.multiprocessing, "get_start_method", lambda: "spawn")
    assert train(tiny_v1, config, tmp_path / "spawned", max_data_loader_n_workers=1) == 0
    assert counts == [0 if sys.platform == "linux" else 1, 1]
