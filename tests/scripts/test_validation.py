"""Validation as a user has it: measured during the training without touching it, the best kept, the run ended when it helps no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import train_db
import train_network
import train_textual_inversion
from examples.quickstart import MODEL
from examples.subject import write_subject
from library.training.validation.measure import Validation
from tests.messages import message, refusal
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.test_resume import names, stop_after

ROOT = Path(__file__).parents[2]
REAL = Validation.measure


@pytest.fixture
def lora(tiny_v1: Path, photos: Path, tmp_path: Path):
    """`lora(folder, **options)` trains on 6 of 9 photographs; `lora.options` are its options."""
    config = dataset(tmp_path / "data.toml", photos, subset="flip_aug = true\nvalidation_split = 0.3\n")

    def options(name: str, **changes: object) -> dict[str, object]:
        common: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v1,
            "dataset_config": config,
            "output_dir": tmp_path / name,
            "output_name": "cat",
            "network_module": "networks.lora",
            "network_dim": 2,
            "network_dropout": 0.3,
            "network_train_unet_only": True,
            "max_train_steps": 8,
            "learning_rate": 1e-2,
            "cache_latents": True,
            "max_data_loader_n_workers": 0,
            "seed": 7,
            "save_precision": "float",
        }
        return {**common, **changes}

    def train(name: str, **changes: object) -> Path:
        assert start(train_network.main, **options(name, **changes)) == 0
        return tmp_path / name

    train.options = options  # type: ignore[attr-defined]
    return train


def scripted(monkeypatch: pytest.MonkeyPatch, *figures: float) -> list[float]:
    """Every validation gives the next of `figures`, the last one for ever; returns those that are left."""
    left = list(figures)
    monkeypatch.setattr(Validation, "measure", lambda self, accelerator, task: left.pop(0) if len(left) > 1 else left[0])
    return left


def test_validation_and_averages_leave_the_training_as_it_was(lora, monkeypatch) -> None:
    """Bit for bit, with dropout, from images that are read again; and one model gives one figure, however often it is asked."""
    figures = []

    def twice(self, accelerator, task):
        figures.append([REAL(self, accelerator, task) for _ in range(2)])
        return figures[-1][0]

    plain = {"cache_latents": False, "max_train_steps": 4}
    monkeypatch.setattr(Validation, "measure", twice)
    with_all = lora("with", **plain, validate_every_n_steps=1, ema_decay=0.9)
    assert len(figures) == 5 and all(one == other for one, other in figures) and len({one for one, _ in figures}) == 5
    scripted(monkeypatch, 1.0)
    without = lora("without", **plain)
    assert tensors_equal(with_all / "cat.safetensors", without / "cat.safetensors")
    assert names(with_all) == ["cat-ema.safetensors", "cat.safetensors"]
    assert not tensors_equal(with_all / "cat-ema.safetensors", with_all / "cat.safetensors")


def test_early_stop_and_the_best_file_go_on_across_a_resume(lora, monkeypatch, capsys, tmp_path: Path) -> None:
    curve = (9.0, 5.0, 3.0, 4.0, 3.5, 3.25, 1.0)  # before the first update, then after each
    common: dict[str, object] = {"validate_every_n_steps": 1, "early_stop_patience": 3, "ema_decay": 0.9}
    scripted(monkeypatch, *curve)
    whole = lora("whole", **common, save_every_n_steps=1)
    message(capsys.readouterr().err, "--early_stop_patience 3", "training ends here", "3 validations")
    steps = [f"cat{ema}-step{step:08d}.safetensors" for ema in ("", "-ema") for step in range(1, 6)]
    ends = [f"cat{ema}{best}.safetensors" for ema in ("", "-ema") for best in ("", "-best")]
    assert names(whole) == sorted([*steps, *ends])
    assert tensors_equal(whole / "cat-best.safetensors", whole / "cat-step00000002.safetensors")
    assert tensors_equal(whole / "cat-ema-best.safetensors", whole / "cat-ema-step00000002.safetensors")
    assert tensors_equal(whole / "cat.safetensors", whole / "cat-step00000005.safetensors")
    left = scripted(monkeypatch, *curve)
    options = lora.options("parts", **common, save_state=True)
    assert stop_after(4, train_network.main, **options) == 130
    assert left == [3.25, 1.0]
    assert start(train_network.main, **options, resume=tmp_path / "parts" / "cat-step00000004-state") == 0
    for name in ends:
        assert tensors_equal(whole / name, tmp_path / "parts" / name), name
    validated = json.loads((tmp_path / "parts" / "cat-state" / "state.json").read_text(encoding="utf-8"))["state"]["validated"]
    assert (validated["best"], validated["best_step"], validated["worse"], validated["last_step"]) == (3.0, 2, 3, 5)
    capsys.readouterr()
    assert start(train_network.main, **options, resume=tmp_path / "parts" / "cat-state") == 2
    refusal(capsys.readouterr().err, "STATE-007", "--early_stop_patience (now 3)")


def test_an_epochs_end_that_was_validated_already_is_not_validated_again(lora, monkeypatch) -> None:
    figures = scripted(monkeypatch, *range(20, 0, -1))
    lora("out", max_train_epochs=2, validate_every_n_steps=3, validate_every_n_epochs=1)  # 3 updates an epoch
    assert len(figures) == 20 - 3  # before the first update, after 3 and 6


@pytest.mark.parametrize("script", ["train_db", "train_textual_inversion"])
def test_every_script_validates(script, tiny_v1: Path, photos: Path, tmp_path: Path, capsys) -> None:
    common: dict[str, object] = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos, subset="class_tokens = 'zorb cat'\n"),
        "output_dir": tmp_path / "out",
        "max_train_steps": 1,
        "max_data_loader_n_workers": 0,
        "validation_split": 0.2,
        "validate_every_n_steps": 1,
        "learning_rate": 1e-4,
    }
    own = {"token_string": "zorb", "use_object_template": True} if script == "train_textual_inversion" else {"no_token_padding": True}
    main = {"train_db": train_db, "train_textual_inversion": train_textual_inversion}[script].main
    assert start(main, **common, **own) == 0
    output = capsys.readouterr().err
    message(output, "validation: 2 images")
    message(output, "validation before the first update: loss")
    message(output, "validation after update 1: loss")


def test_options_of_validation_without_images_for_it_are_refused(lora, tmp_path: Path, photos: Path, capsys) -> None:
    config = dataset(tmp_path / "none.toml", photos)
    assert start(train_network.main, **lora.options("out", dataset_config=config, early_stop_patience=2)) == 2
    refusal(capsys.readouterr().err, "DATA-014", "--early_stop_patience", "--validation_split 0.1")


@pytest.mark.slow
def test_on_an_overfitting_set_the_loss_falls_and_rises_and_the_run_ends_at_the_turn(tmp_path: Path, monkeypatch) -> None:
    """The shipped small model learns two images of a teal star by heart; three others show when that no longer teaches it the star."""
    write_subject(tmp_path / "star")
    text = "class_tokens = 'zxc star'\nvalidation_split = 0.75\n"
    curves: dict[str, list[float]] = {}

    def train(name: str, **changes: object) -> Path:
        curve = curves.setdefault(name, [])
        monkeypatch.setattr(Validation, "measure", lambda *arguments: curve.append(REAL(*arguments)) or curve[-1])
        options: dict[str, object] = {
            "pretrained_model_name_or_path": ROOT / MODEL,
            "dataset_config": dataset(tmp_path / "data.toml", tmp_path / "star", batch_size=3, subset=text),
            "output_dir": tmp_path / name,
            "output_name": "star",
            "network_module": "networks.lora",
            "network_dim": 16,
            "network_alpha": 16,
            "network_train_unet_only": True,
            "learning_rate": 3e-3,
            "min_timestep": 300,
            "max_train_steps": 30,
            "validate_every_n_steps": 6,
            "max_validation_steps": 1,
            "cache_latents": True,
            "max_data_loader_n_workers": 0,
            "seed": 2,
            "save_every_n_steps": 6,
            "save_precision": "float",
        }
        assert start(train_network.main, **options, **changes) == 0
        return tmp_path / name

    stopped = train("stopped", early_stop_patience=2)
    whole = train("whole")
    curve = curves["whole"]
    lowest = min(range(len(curve)), key=curve.__getitem__)
    assert 0 < lowest < len(curve) - 1, curves
    assert curve[lowest] < 0.8 * curve[0] and curve[-1] > 1.1 * curve[lowest], curves
    assert curves["stopped"] == curve[: lowest + 3], curves  # ended two validations after the lowest, and was the same run until there
    assert tensors_equal(stopped / "star-best.safetensors", whole / f"star-step{6 * lowest:08d}.safetensors")
