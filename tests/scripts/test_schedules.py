"""Whole runs: rates that are the parts' own, a schedule that ends too soon, one that a resume changes, and parts that are not trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import train_db
import train_network
from library.training import assemble
from tests.data.material import photo
from tests.messages import message, refusal
from tests.scripts.starting import dataset, start


@pytest.fixture
def command(tiny_v1: Path, photos: Path, tmp_path: Path) -> dict[str, object]:
    """A short LoRA run of one batch an update."""
    return {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos, resolution=32),
        "output_dir": tmp_path / "out",
        "output_name": "cat",
        "network_module": "networks.lora",
        "network_dim": 2,
        "max_train_steps": 4,
        "learning_rate": 1e-3,
        "cache_latents": True,
        "max_data_loader_n_workers": 0,
        "seed": 1,
        "save_precision": "float",
    }


def logged(folder: Path, key: str) -> list[float | None]:
    """A figure of the run's log in each update, None where it is missing."""
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line.get(key) for line in lines if "loss/current" in line]


def test_an_image_alone_in_its_bucket_counts_as_much_as_any_other(command, tmp_path: Path) -> None:
    """8 images in buckets of 4, 1, 1 and 2 in one update, held against the same 8 one by one: loss, gradient and weights."""
    folder = tmp_path / "uneven"
    for number, size in enumerate([(128, 128)] * 4 + [(256, 64)] + [(64, 256)] + [(192, 64)] * 2):
        photo(folder / f"{number}.png", size, seed=number)
    ends = []
    for name, batch_size, accumulation in (("uneven", 4, 4), ("single", 1, 8)):
        text = f"""
[general]
resolution = 128
enable_bucket = true
min_bucket_reso = 64
bucket_reso_steps = 64
batch_size = {batch_size}
[[datasets]]
[[datasets.subsets]]
image_dir = {str(folder)!r}
class_tokens = "x"
"""
        toml = tmp_path / f"{name}.toml"
        toml.write_text(text, encoding="utf-8")
        run = {**command, "dataset_config": toml, "output_dir": tmp_path / name, "max_train_steps": 1, "optimizer_type": "SGD"}
        run |= {"gradient_accumulation_steps": accumulation, "max_grad_norm": 0, "learning_rate": 1.0, "cache_latents": False}
        assert start(train_network.main, **run) == 0
        figures = [logged(tmp_path / name, key)[0] for key in ("loss/current", "grad_norm")]
        ends.append((figures, load_file(tmp_path / name / "cat.safetensors")))
    (uneven, weights), (single, expected) = ends
    assert uneven == pytest.approx(single, rel=1e-3)
    moved = {key for key in weights if key.endswith("lora_up.weight")}
    assert all(torch.allclose(weights[key], expected[key], rtol=1e-2, atol=1e-7) for key in moved)


def rates_of(state: Path) -> list[float]:
    return [group["lr"] for group in torch.load(state / "training.pt", weights_only=True)["optimizer"]["param_groups"]]


def not_loaded(*_: object) -> None:
    raise AssertionError("the model was loaded")


def test_the_floor_is_that_of_the_parts_rates_though_the_common_rate_is_0(command) -> None:
    rates = {"learning_rate": 0, "unet_lr": 1e-4, "text_encoder_lr": 5e-5, "save_state_on_train_end": True}
    run = {**command, **rates, "lr_scheduler": "cosine_with_min_lr", "lr_scheduler_args": ["min_lr=1e-5"]}
    assert start(train_network.main, **run) == 0
    assert rates_of(Path(command["output_dir"]) / "cat-state") == pytest.approx([1e-5, 1e-5])


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        (
            {"lr_scheduler_type": "OneCycleLR", "lr_scheduler_args": ["max_lr=1e-3", "total_steps=2"]},
            ("OPT-015", "total_steps=2", "2 updates", 4, "--lr_scheduler_args total_steps=4"),
        ),
        (
            {"lr_scheduler": "polynomial", "lr_scheduler_args": ["lr_end=1e-4"], "text_encoder_lr": 1e-5},
            ("OPT-015", "lr_end=0.0001", "textencoder", "1e-05"),
        ),
        ({"lr_scheduler_type": "ReduceLROnPlateau"}, ("OPT-014", "ReduceLROnPlateau", "metrics")),
    ],
)
def test_what_cannot_be_is_refused_before_the_model_is_loaded(command, changes, asked, monkeypatch, capsys) -> None:
    monkeypatch.setattr(assemble, "ready_model", not_loaded)
    assert start(train_network.main, **{**command, **changes}) == 2
    refusal(capsys.readouterr().err, *asked)


def test_a_resumed_run_follows_the_class_that_is_asked_for_now(command, monkeypatch, capsys) -> None:
    first = {**command, "lr_scheduler_type": "StepLR", "lr_scheduler_args": ["step_size=1"], "max_train_steps": 3, "save_state": True}
    assert start(train_network.main, **first) == 0
    state = Path(command["output_dir"]) / "cat-state"
    for args, end in ((["step_size=2", "gamma=0.5"], 1e-3 / 8), (["step_size=4", "gamma=0.5"], 1e-3 / 2)):
        again = {**first, "lr_scheduler_args": args, "max_train_steps": 6, "output_name": f"cat-{end}", "resume": state}
        assert start(train_network.main, **again) == 0
        assert rates_of(Path(command["output_dir"]) / f"cat-{end}-state") == pytest.approx([end, end])
    message(capsys.readouterr().err, "new curve", "update 4")
    monkeypatch.setattr(assemble, "ready_model", not_loaded)
    short = {"lr_scheduler_type": "OneCycleLR", "lr_scheduler_args": ["max_lr=1e-3", "total_steps=5"], "max_train_steps": 6}
    assert start(train_network.main, **{**first, **short, "resume": state}) == 2
    refusal(capsys.readouterr().err, "OPT-015", "5 updates", 6, "--lr_scheduler_args total_steps=6")


def test_a_warm_up_that_a_longer_run_enters_again_is_told(command, capsys) -> None:
    first = {**command, "lr_scheduler": "linear", "lr_warmup_steps": 0.5, "save_state": True}
    assert start(train_network.main, **first) == 0
    state = Path(command["output_dir"]) / "cat-state"
    capsys.readouterr()
    assert start(train_network.main, **{**first, "max_train_steps": 10, "resume": state, "output_name": "long"}) == 0
    message(capsys.readouterr().err, "--lr_warmup_steps 0.5", "5 of 10 updates", "2 of 4", "warm-up again", "4/5")
    assert start(train_network.main, **{**first, "max_train_steps": 6, "resume": state}) == 0
    assert "warm-up again" not in capsys.readouterr().err


def test_limited_norms_leave_a_part_at_rate_0_alone(command, tmp_path: Path) -> None:
    assert start(train_network.main, **command) == 0
    first = Path(command["output_dir"]) / "cat.safetensors"
    limited = {**command, "network_weights": first, "output_name": "limited", "text_encoder_lr": 0, "scale_weight_norms": 1e-6}
    assert start(train_network.main, **limited) == 0
    before, after = load_file(first), load_file(first.with_name("limited.safetensors"))
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved and not any(name.startswith("lora_te_") for name in moved)


def test_a_frozen_text_encoder_has_no_rate_in_the_log(command, tmp_path: Path) -> None:
    shared = ("pretrained_model_name_or_path", "dataset_config", "output_dir", "max_train_steps", "learning_rate", "seed")
    run = {key: command[key] for key in shared} | {"stop_text_encoder_training": 2, "max_data_loader_n_workers": 0}
    assert start(train_db.main, **run) == 0
    folder = Path(command["output_dir"])
    assert logged(folder, "lr/unet") == pytest.approx([1e-3] * 4)
    assert logged(folder, "lr/textencoder") == [1e-3, 1e-3, None, None]


@pytest.mark.parametrize("option", ["cache_latents", "cache_latents_to_disk", None])
def test_a_file_tells_that_latents_were_cached_wherever_they_lie(command, option: str | None) -> None:
    run = {**command, "cache_latents": False, "max_train_steps": 1} | ({option: True} if option else {})
    assert start(train_network.main, **run) == 0
    with safe_open(Path(command["output_dir"]) / "cat.safetensors", "pt") as file:
        assert file.metadata()["ss_cache_latents"] == str(option is not None)


@pytest.mark.parametrize(("algo", "said"), [("full", ("FullModule", "AttributeError")), ("ia3", ("algo=ia3",))])
def test_what_lycoris_cannot_train_is_one_line_before_the_training(command, algo: str, said: tuple[str, ...], capsys) -> None:
    pytest.importorskip("lycoris.kohya")
    assert start(train_network.main, **{**command, "network_module": "lycoris.kohya", "network_args": [f"algo={algo}"]}) == 2
    refusal(capsys.readouterr().err.splitlines()[-1:], "LORA-011", "--network_module lycoris.kohya", "networks.lora", *said)
