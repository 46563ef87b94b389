"""Diffusers folders that we write, read by diffusers and transformers themselves."""

from __future__ import annotations

import pytest
import torch

from library.model.diffusers_folder import save_diffusers
from library.model.load import load


@pytest.mark.parametrize(("version", "safetensors"), [("v1", True), ("v1", False), ("v2", True)])
def test_diffusers_reads_the_folder_and_so_do_we(version, safetensors, models, tmp_path):
    from diffusers import StableDiffusionPipeline

    folder = tmp_path / "model"
    save_diffusers(models[version], folder, safetensors=safetensors)
    assert bool(list(folder.rglob("*.safetensors"))) == safetensors and bool(list(folder.rglob("*.bin"))) != safetensors
    theirs = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    ours = load(folder, v2=version == "v2")
    for part in ("unet", "vae", "text_encoder"):
        expected = getattr(models[version], part).state_dict()
        for other in (getattr(theirs, part).state_dict(), getattr(ours, part).state_dict()):
            assert other.keys() == expected.keys()
            assert all(other[name].equal(expected[name]) for name in expected)
    ids = models[version].tokenizer("a photo of a cat")[0]
    padded = theirs.tokenizer("a photo of a cat", padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert padded.equal(ids)


def test_a_folder_is_replaced_whole_and_says_what_it_predicts(models, tmp_path):
    from dataclasses import replace

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "stale.txt").touch()
    save_diffusers(replace(models["v2"], prediction="v_prediction"), folder, dtype=torch.float16)
    assert not (folder / "stale.txt").exists() and [path.name for path in tmp_path.iterdir()] == ["model"]
    assert load(folder, v2=True, v_parameterization=True).prediction == "v_prediction"


def test_a_failing_save_leaves_the_old_folder(models, tmp_path, monkeypatch):
    import library.model.diffusers_folder as room

    def fail(*args):
        raise OSError("disk full")

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "good.txt").touch()
    monkeypatch.setattr(room, "write_safetensors", fail)
    with pytest.raises(OSError, match="disk full"):
        save_diffusers(models["v1"], folder)
    assert (folder / "good.txt").exists() and [path.name for path in tmp_path.iterdir()] == ["model"]
