"""The losses of tools/compare_networks.py: those of the validation, measured once, and what they can tell apart."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest

import train_network
from library.generation.comparing.losses import standings, verdict
from tests.generation.conftest import QUICK, Compare
from tests.messages import message
from tests.scripts.running import run_in_process
from tests.scripts.starting import dataset, start
from tools import compare_networks


def test_the_best_is_told_from_others_by_the_noise_of_the_differences() -> None:
    """Losses that differ much from image to image and little from column to column: the paired standard error of a t-test."""
    easy, hard = [0.1, 0.2, 0.6, 0.9], [0.11, 0.22, 0.61, 0.93]
    same = [0.101, 0.199, 0.599, 0.902]
    columns = standings([hard, easy, same])
    assert [one.is_best for one in columns] == [False, True, False]
    differences = [one - other for one, other in zip(hard, easy, strict=True)]
    assert columns[0].behind == pytest.approx(statistics.fmean(differences))
    assert columns[0].noise == pytest.approx(np.std(differences, ddof=1) / np.sqrt(4))
    assert columns[0].is_apart and not columns[2].is_apart
    said = verdict(["a", "b", "c"], columns, 4)
    message(said, "b (0.45000, 4 images)")
    assert said.endswith("times the noise: c")
    assert standings([[0.1], [0.2]])[1].noise is None and "for a single image" in verdict(["a", "b"], standings([[0.1], [0.2]]), 1)
    assert standings([[float("nan")] * 2, [0.1, 0.2]])[1].is_best


def test_the_loss_is_the_validation_loss_of_the_training(tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    config = dataset(tmp_path / "data.toml", photos, subset="validation_split = 0.4")
    options = {
        "pretrained_model_name_or_path": tiny_v1, "dataset_config": config, "output_dir": tmp_path, "output_name": "made",
        "network_module": "networks.lora", "network_dim": 2, "learning_rate": 0.1, "optimizer_type": "SGD", "max_train_steps": 2,
        "save_every_n_steps": 1, "validate_every_n_steps": 1, "max_data_loader_n_workers": 0, "seed": 1,
    }  # fmt: skip
    assert start(train_network.main, **options) == 0
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    trained = [value for line in lines for key, value in line.items() if "validation" in key and isinstance(value, float)]
    trained += [value for line in lines for key, value in (line.get("values") or {}).items() if "validation" in key]
    argv = ("--ckpt", tiny_v1, "--networks", tmp_path / "made*.safetensors", "--prompt", "a", "--outdir", tmp_path / "out", *QUICK)
    assert run_in_process(compare_networks.main, *argv, "--dataset_config", config, "--without") == 0
    measured = [statistics.fmean(losses) for losses in json.loads((tmp_path / "out" / "losses.json").read_text(encoding="utf-8")).values()]
    assert len(measured) == 3 and len(trained) >= 3
    assert all(any(loss == pytest.approx(other, rel=1e-6) for other in trained) for loss in measured), (measured, trained)


def test_losses_stand_under_the_columns_and_are_measured_once(
    compare: Compare, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import library.generation.comparing.measuring as measuring

    measured = []
    losses = measuring.Measure.losses
    monkeypatch.setattr(measuring.Measure, "losses", lambda self: measured.append(1) or losses(self))
    pictures = tmp_path / "pictures"
    shutil.copytree(photos, pictures, ignore=shutil.ignore_patterns("0[2-9]*"))
    for caption in pictures.glob("*.caption"):
        caption.rename(caption.with_suffix(".words"))
    argv = ("--prompt", "a", "--images", pictures, "--resolution", "64", "--caption_extension", ".words", "--without")
    folder = compare(*argv)
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert text.count("class=best") == 1 and "lowest validation loss: " in text and len(measured) == 4
    compare(*argv)
    assert len(measured) == 4
    compare(*argv, "--validation_seed", 5)
    assert len(measured) == 8
    (folder / "losses.json").write_text("[1", encoding="utf-8")
    compare(*argv)
    assert len(measured) == 12
