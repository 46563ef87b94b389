"""The quickstart goes through as a new user starts it, and everything it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from examples import quickstart
from library.console import EXIT_FAULT

SHORT = ("--", "--max_train_epochs", "1", "--network_dim", "2")


def test_a_missing_model_is_told_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert quickstart.main(["--model", str(tmp_path / "none.safetensors"), "--output", str(tmp_path / "out")]) == EXIT_FAULT
    told = capfd.readouterr()
    assert told.err.startswith("error: --model") and len(told.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("photos", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_trains_and_names_only_what_is_there(
    photos: bool, tiny_v1: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quickstart, "STEPS", 2)  # noise looks no better after more
    more = ["--photos"] if photos else []
    assert quickstart.main([*more, "--model", str(tiny_v1), "--output", str(tmp_path / "out"), *SHORT]) == 0
    told = capfd.readouterr().out
    places = {Path(place) for place in re.findall(re.escape(str(tmp_path)) + r"[\w/\\.-]+", told)}
    ends = {place.name for place in places}
    assert {"before_after.png", "index.html", "quickstart.safetensors", "sample", "logs", "dataset.toml"} <= ends
    assert all(place.exists() for place in places), [place for place in places if not place.exists()]
    assert "accelerate launch" in told
    folder = tmp_path / "out" / ("photos" if photos else "")
    example = quickstart.PHOTOS if photos else quickstart.SUBJECT
    assert len(list((folder / "sample").glob("*.png"))) == len(example.prompts)
    with Image.open(folder / "before_after.png") as sheet:
        assert sheet.width > 400
    assert len(list((folder / "comparison" / "cells").iterdir())) == 2 * len(example.prompts)  # without and with the only epoch's file


def test_a_training_that_stops_is_no_success(tiny_v1: Path, tmp_path: Path):
    assert quickstart.main(["--model", str(tiny_v1), "--output", str(tmp_path / "out"), "--", "--lerning_rate", "1"]) != 0
