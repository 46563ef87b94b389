"""--image_ledger in whole runs: what is counted with accumulation, class images, masks, caches and own batches.

Several processes are in test_processes.py, states in test_exact_resume.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import train_network
from library.training.ledger import ledger_files
from tests.messages import message
from tests.scripts.running import tensors_equal
from tests.scripts.starting import start

Ledger = dict[str, dict[str, Any]]
Train = Callable[..., Ledger]


def pictures(folder: Path, count: int, caption: str | None = None) -> Path:
    folder.mkdir()
    for number in range(count):
        values = np.random.default_rng(number).integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(values).resize((64, 64)).save(folder / f"{folder.name}{number}.png")
        if caption:
            (folder / f"{folder.name}{number}.txt").write_text(caption.format(number), encoding="utf-8")
    return folder


@pytest.fixture
def train(tiny_v1: Path, tmp_path: Path) -> Train:
    """`train(name, subsets, **options)` trains into tmp_path/<name> and returns its ledger, by the names of images."""

    def run(name: str, subsets: str, batch_size: int = 2, **options: object) -> Ledger:
        config = tmp_path / f"{name}.toml"
        config.write_text(f"[[datasets]]\nresolution = 64\nbatch_size = {batch_size}\n{subsets}", encoding="utf-8")
        chosen: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v1,
            "dataset_config": config,
            "output_dir": tmp_path / name,
            "output_name": "cat",
            "network_module": "networks.lora",
            "network_dim": 2,
            "max_train_epochs": 2,
            "cache_latents": True,
            "max_data_loader_n_workers": 0,
            "seed": 7,
            "save_precision": "float",
            "image_ledger": True,
        }
        assert start(train_network.main, **chosen | options) == 0
        lines = (tmp_path / name / "cat.images.jsonl").read_text(encoding="utf-8").splitlines()
        return {Path(line["image"]).name: line for line in map(json.loads, lines)}

    return run


def subset(folder: Path, *lines: str) -> str:
    return "\n".join(("[[datasets.subsets]]", f"image_dir = '{folder}'", "caption_extension = '.txt'", *lines, ""))


def test_showings_are_counted_with_repeats_class_images_and_accumulation_and_captions_are_as_drawn(train: Train, tmp_path: Path) -> None:
    cats, others = pictures(tmp_path / "cat", 3, "a, b, cat {}"), pictures(tmp_path / "other", 8)
    repeated = subset(cats, "num_repeats = 2", "shuffle_caption = true")
    entries = train("run", repeated + subset(others, "is_reg = true", "class_tokens = 'thing'"), gradient_accumulation_steps=3)
    trained = [entries[f"cat{number}.png"] for number in range(3)]
    assert [line["times_seen"] for line in trained] == [4] * 3
    for number, line in enumerate(trained):
        assert sum(one["times"] for one in line["captions"]) == 4 and line["other_captions"] == 0
        assert all(sorted(one["text"].split(", ")) == ["a", "b", f"cat {number}"] for one in line["captions"])
    assert len({one["text"].replace(str(number), "") for number, line in enumerate(trained) for one in line["captions"]}) > 1
    classes = [line for name, line in entries.items() if name.startswith("other")]
    assert [line["class_image"] for line in classes] == [True] * 8
    assert sum(line["times_seen"] for line in classes) == 12  # as many as of the trained ones
    assert {one["text"] for line in classes for one in line["captions"]} == {"thing"}


@pytest.mark.parametrize("way", [{"cache_latents": None}, {"cache_text_encoder_outputs": True, "network_train_unet_only": True}])
def test_a_ledger_changes_no_bit_of_what_is_trained(train: Train, tmp_path: Path, way: dict[str, object]) -> None:
    images = subset(pictures(tmp_path / "cat", 3, "cat {}"))
    assert len(train("with", images, **way)) == 3
    with pytest.raises(FileNotFoundError):
        train("without", images, **way, image_ledger=None)
    assert tensors_equal(tmp_path / "with" / "cat.safetensors", tmp_path / "without" / "cat.safetensors")


def test_a_mask_does_not_make_an_image_easy(train: Train, tmp_path: Path) -> None:
    """The loss of an image of which an eighth counts is an eighth; relative to what is usual it is the same."""
    cats = pictures(tmp_path / "cat", 8, "cat")
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(8):
        mask = np.full((64, 64), 255, np.uint8)
        mask[:, 0 if number else 8 :] = 255 if number else 0
        Image.fromarray(mask).save(masks / f"cat{number}.png")
    entries = train("run", subset(cats, f"conditioning_data_dir = '{masks}'"), masked_loss=True, max_train_epochs=6)
    assert 0.5 < entries["cat0.png"]["hardness"]["value"] < 2
    assert [line["times_seen"] for line in entries.values()] == [6] * 8


def test_own_batches_are_known_by_their_names(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "import torch",
        "class Own:",
        "    def __init__(self, tokenizer, max_token_length, resolution, debug_dataset): pass",
        "    def __len__(self): return 3",
        "    def __getitem__(self, index):",
        "        names = [f'{index}-{row}' for row in range(2)]",
        "        return {'images': torch.zeros(2, 3, 64, 64), 'captions': names, 'image_keys': names}",
    ]
    (tmp_path / "own_ledger_batches.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    entries = train("run", "", dataset_config=None, dataset_class="own_ledger_batches.Own", cache_latents=None)
    assert sorted(entries) == [f"{index}-{row}" for index in range(3) for row in range(2)]
    assert all((line["times_seen"], line["captions"]) == (2, [{"text": name, "times": 2}]) for name, line in entries.items())


def test_a_run_that_goes_back_forgets_what_it_has_undone(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Update 3 breaks a weight, which the save after it finds; the last good state is that of update 2."""
    from library.training.step import guard
    from library.training.step.update import Weights

    real, broken = Weights.move, [3]

    def move(self, pending):
        real(self, pending)
        if pending.step in broken:
            broken.clear()
            self._trained[0].data.fill_(float("nan"))

    monkeypatch.setattr(guard, "SNAPSHOT_EVERY", 2)
    monkeypatch.setattr(Weights, "move", move)
    images = subset(pictures(tmp_path / "cat", 12, "cat {}"))
    entries = train("run", images, on_nan="rollback", max_train_epochs=1, save_every_n_steps=3)
    assert not broken
    assert sum(line["times_seen"] for line in entries.values()) == 12  # six updates of two


def test_a_ledger_that_cannot_be_written_does_not_end_the_run(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger_files, "atomic_write", full)
    with pytest.raises(FileNotFoundError):
        train("run", subset(pictures(tmp_path / "cat", 2, "cat {}")))
    assert (tmp_path / "run" / "cat.safetensors").is_file()


def test_a_state_without_a_ledger_begins_one_and_says_so(train: Train, tmp_path: Path, heard) -> None:
    images = subset(pictures(tmp_path / "cat", 4, "cat {}"))
    with pytest.raises(FileNotFoundError):
        train("run", images, image_ledger=None, max_train_epochs=1, save_state=True)
    entries = train("run", images, resume=tmp_path / "run" / "cat-state")
    assert [line["times_seen"] for line in entries.values()] == [1] * 4
    message(heard.warnings, "--image_ledger", "after update 2")
