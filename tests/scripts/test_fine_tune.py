"""fine_tune.py as users run it: metadata in, a whole model out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

import fine_tune
from library.model.files import keys
from tests.scripts.starting import dataset, start
from tests.scripts.test_train_db import changed


@pytest.fixture
def metadata(tmp_path: Path, photos: Path) -> Path:
    """A metadata file for the photos, captions from their caption files."""
    entries = {path.stem: {"caption": path.read_text(encoding="utf-8").strip(), "tags": "photo"} for path in photos.glob("*.caption")}
    path = tmp_path / "meta.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def train(model: Path, output: Path, **options: object) -> int:
    common: dict[str, object] = {
        "pretrained_model_name_or_path": model,
        "output_dir": output,
        "max_train_steps": 2,
        "learning_rate": 1e-3,
        "seed": 1,
        "max_data_loader_n_workers": 0,
        "save_precision": "float",
    }
    return start(fine_tune.main, **{**common, **options})


@pytest.mark.parametrize("text_encoder", [False, True])
def test_only_what_is_trained_changes(tiny_v1: Path, photos: Path, metadata: Path, tmp_path: Path, text_encoder: bool) -> None:
    done = train(tiny_v1, tmp_path, train_data_dir=photos, in_json=metadata, resolution=64, train_text_encoder=text_encoder)
    assert done == 0
    names = changed(tiny_v1, tmp_path / "last.safetensors")
    assert {name for name in load_file(tiny_v1) if name.startswith(keys.UNET)} <= names
    others = {name for name in names if not name.startswith(keys.UNET)}
    assert all(name.startswith("cond_stage_model.") for name in others) and bool(others) == text_encoder


def test_a_config_with_metadata_is_taken_and_one_without_refused(
    tiny_v2: Path, photos: Path, metadata: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = dataset(tmp_path / "data.toml", photos, subset=f"metadata_file = '{metadata}'")
    assert train(tiny_v2, tmp_path / "out", dataset_config=config, v2=True, diffusers_xformers=True) == 0
    assert "--xformers" in capsys.readouterr().err  # there is none here: told, and PyTorch's own attention used
    dataset(config, photos, subset="class_tokens = 'cat'")
    assert train(tiny_v2, tmp_path / "no", dataset_config=config, v2=True) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "metadata_file" in line and "train_db.py" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_data_dir": "photos", "resolution": 64}, ("--in_json",)),
        ({"in_json": "meta.json", "resolution": 64}, ("--train_data_dir",)),
        ({"train_data_dir": "empty", "in_json": "meta.json", "resolution": 64}, ("meta.json", "no image found", "empty")),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    tiny_v1: Path, photos: Path, metadata: Path, tmp_path: Path, options: dict, words: tuple[str, ...], capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("photos").symlink_to(photos)
    assert train(tiny_v1, Path("out"), **options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words), line
