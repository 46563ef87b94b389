"""The small model's recipe goes through from nothing to a file that draws, with a tenth of its steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from examples.small_model import make_inpainting
from examples.small_model.make import LESSONS, make
from examples.small_model.train_vae import ROUNDS, train_vae
from library.model.drawing.generate import GenerateSettings, generate
from library.model.load import load

MEBIBYTE = 2**20


@pytest.mark.slow
def test_a_tenth_of_the_recipe_goes_through_and_has_begun_to_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    figures = make(tmp_path / "small_sd.safetensors", tmp_path / "work", share=0.1)
    assert json.loads((tmp_path / "small_sd.json").read_text(encoding="utf-8")) == figures
    assert figures["bytes"] == (tmp_path / "small_sd.safetensors").stat().st_size <= 16 * MEBIBYTE
    assert [done["steps"] for done in figures["autoencoder"]["rounds"]] == [round(planned.steps * 0.1) for planned in ROUNDS]
    assert [done["updates"] for done in figures["diffusion"]["lessons"]] == [round(lesson.updates * 0.1) for lesson in LESSONS]
    assert figures["autoencoder"]["rounds"][-1]["l1"] < 0.2  # of a range of 2; untrained about 0.6
    settings = GenerateSettings("a red circle on a blue background", "", 64, 64, 10, 3.0, 1)
    picture = generate(load(tmp_path / "small_sd.safetensors"), settings)
    assert picture.size == (64, 64)


@pytest.mark.slow
def test_a_hundredth_of_the_inpainting_recipe_goes_through_and_moves_the_new_channels(tmp_path: Path):
    """What comes of all of it is judged in tests/learning."""
    figures = make_inpainting.make(tmp_path / "nine.safetensors", tmp_path / "work", share=0.01)
    assert json.loads((tmp_path / "nine.json").read_text(encoding="utf-8")) == figures
    assert figures["bytes"] == (tmp_path / "nine.safetensors").stat().st_size
    assert [done["updates"] for done in figures["lessons"]] == [round(lesson.updates * 0.01) for lesson in make_inpainting.LESSONS]
    before, after = (load(file).unet.conv_in.weight for file in (make_inpainting.SMALL_MODEL, tmp_path / "nine.safetensors"))
    assert after.shape[1] == 9 and (after[:, 4:].abs().amax(dim=(0, 2, 3)) > 0).all()
    assert not torch.equal(after[:, :4], before)


@pytest.mark.slow
def test_rounds_that_were_kept_are_not_repeated(tmp_path: Path):
    torch.set_num_threads(1)
    first, told = train_vae(tmp_path, share=0.0)
    again, told_again = train_vae(tmp_path, share=0.0)
    assert told == told_again
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert len(told["rounds"]) == len(ROUNDS)
