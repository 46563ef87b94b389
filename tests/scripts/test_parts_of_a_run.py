"""The text encoder's part of a network alone: it stops, has a separate limit of gradients and rate, and a resumed run is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_db
import train_network
from tests.messages import message, refusal
from tests.scripts.running import kept, tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import losses, stop_after

Train = Callable[..., Path]
Main = Callable[[Sequence[str]], None]
UPDATES = 6


@pytest.fixture
def common(tiny_v1: Path, photos: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos, resolution=32),
        "output_name": "cat",
        "max_train_steps": UPDATES,
        "learning_rate": 1e-2,
        "cache_latents": True,
        "max_data_loader_n_workers": 0,
        "seed": 7,
        "save_precision": "float",
    }


LORA: dict[str, object] = {"network_module": "networks.lora", "network_dim": 2, "network_dropout": 0.1}
LYCORIS: dict[str, object] = {"network_module": "lycoris.kohya", "network_dim": 2, "network_args": ["algo=lora"]}


def of_text(file: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(file).items() if name.startswith("lora_te")}


def of_unet(file: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_file(file).items() if name.startswith("lora_unet")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and bool(one) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("network", [LORA, LYCORIS], ids=["lora", "lycoris"])
def test_a_network_whose_text_encoder_stops_leaves_it_as_it_was_and_goes_on_exactly(
    network: dict[str, object], common: dict[str, object], tmp_path: Path
) -> None:
    """All that treats a part separately at once, stopped on either side of the update at which the text encoder stops."""
    if network is LYCORIS:
        pytest.importorskip("lycoris.kohya", reason="lycoris-lora is not installed")
    chosen = common | network | {"stop_text_encoder_training": 3, "max_grad_norm_te": 0.05, "save_at_steps": "1,3,4"}
    chosen |= {"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 2, "lr_scheduler_min_lr_ratio": 0.2}
    with losses() as expected:
        assert start(train_network.main, **chosen, output_dir=tmp_path / "whole") == 0
    at = {step: tmp_path / "whole" / f"cat-step{step:08d}.safetensors" for step in (1, 3, 4)}
    last = tmp_path / "whole" / "cat.safetensors"
    assert kept(tmp_path / "whole") == sorted([*(path.name for path in at.values()), "cat.safetensors"])
    assert not same(of_text(at[1]), of_text(at[3])) and same(of_text(at[3]), of_text(at[4])) and same(of_text(at[3]), of_text(last))
    assert not same(of_unet(at[4]), of_unet(last))
    chosen |= {"output_dir": tmp_path / "parts", "save_state": True}
    with losses() as losses_of_the_parts:
        for step in (2, 5):
            assert stop_after(step, train_network.main, **chosen) == 130
            chosen["resume"] = tmp_path / "parts" / f"cat-step{step:08d}-state"
        assert start(train_network.main, **chosen) == 0
    assert losses_of_the_parts == expected and tensors_equal(last, tmp_path / "parts" / "cat.safetensors")


def test_stopping_after_the_end_and_a_limit_that_is_never_reached_change_no_bit(common: dict[str, object], tmp_path: Path) -> None:
    chosen = common | LORA | {"max_grad_norm": 0, "max_train_steps": 3}
    assert start(train_network.main, **chosen, output_dir=tmp_path / "plain") == 0
    more = {"stop_text_encoder_training": 3, "max_grad_norm_te": 1e9, "save_at_steps": "2", "sample_seed": 1}
    assert start(train_network.main, **chosen, **more, output_dir=tmp_path / "same") == 0
    assert tensors_equal(tmp_path / "plain" / "cat.safetensors", tmp_path / "same" / "cat.safetensors")
    assert start(train_network.main, **chosen | {"max_grad_norm_te": 1e-4}, output_dir=tmp_path / "cut") == 0
    assert not tensors_equal(tmp_path / "plain" / "cat.safetensors", tmp_path / "cut" / "cat.safetensors")


def test_never_is_the_unet_alone(common: dict[str, object], tmp_path: Path) -> None:
    chosen = common | LORA | {"max_train_steps": 2}
    assert start(train_network.main, **chosen, stop_text_encoder_training=-1, output_dir=tmp_path / "never") == 0
    assert start(train_network.main, **chosen, network_train_unet_only=True, output_dir=tmp_path / "alone") == 0
    assert tensors_equal(tmp_path / "never" / "cat.safetensors", tmp_path / "alone" / "cat.safetensors")


def test_a_rate_for_each_part_goes_on_exactly(common: dict[str, object], tmp_path: Path) -> None:
    pytest.importorskip("prodigyopt")
    chosen = common | LORA | {"optimizer_type": "Prodigy", "learning_rate": 1.0, "text_encoder_lr": 0.5}
    chosen |= {"optimizer_args": ["split_groups=True", "d0=1e-4"], "max_grad_norm": 0}
    with losses() as expected:
        assert start(train_network.main, **chosen, output_dir=tmp_path / "whole") == 0
    chosen |= {"output_dir": tmp_path / "parts", "save_state": True}
    with losses() as losses_of_the_parts:
        assert stop_after(3, train_network.main, **chosen) == 130
        assert start(train_network.main, **chosen, resume=tmp_path / "parts" / "cat-step00000003-state") == 0
    assert losses_of_the_parts == expected
    assert tensors_equal(tmp_path / "whole" / "cat.safetensors", tmp_path / "parts" / "cat.safetensors")


def test_a_whole_model_has_a_limit_for_its_text_encoder_too(common: dict[str, object], tmp_path: Path) -> None:
    """With a limit of nearly 0 the text encoder stays where it is, and the U-Net moves as far as ever."""
    chosen = common | {"save_model_as": "safetensors", "optimizer_type": "SGD", "max_train_steps": 1}
    assert start(train_db.main, **chosen, output_dir=tmp_path / "plain", max_grad_norm=0) == 0
    assert start(train_db.main, **chosen, output_dir=tmp_path / "cut", max_grad_norm=0, max_grad_norm_te=1e-12) == 0
    plain, cut = (load_file(tmp_path / name / "cat.safetensors") for name in ("plain", "cut"))
    moved = {name for name in plain if not torch.equal(plain[name], cut[name])}
    assert moved and all(name.startswith("cond_stage_model.") for name in moved)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (
            {"network_train_text_encoder_only": True, "stop_text_encoder_training": 2},
            ("OPT-012", "--stop_text_encoder_training", "--network_train_text_encoder_only"),
        ),
        ({"unet_lr": 0, "stop_text_encoder_training": 2}, ("OPT-012", "--stop_text_encoder_training", "U-Net rate of 0")),
        (
            {"full_fp16": True, "mixed_precision": "fp16", "max_grad_norm_te": 1},
            ("OPT-008", "--max_grad_norm_te", "--full_fp16"),
        ),
        (
            {"network_module": "own_network_without_parts", "max_grad_norm_te": 1},
            ("LORA-010", "--max_grad_norm_te", "text_encoder_loras", "--network_module"),
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    options: dict[str, object],
    asked: tuple[str, ...],
    common: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    lines = ["from networks.lora import *", "from library.lora.network import LoRANetwork", "import networks.lora as _lora"]
    lines += ["class Bare(LoRANetwork):", "    def prepare_optimizer_params(self, *rates):"]
    lines += ["        groups = super().prepare_optimizer_params(*rates)", "        return [{**group, 'name': 'x'} for group in groups]"]
    lines += ["def create_network(*given, **more):"]
    lines += ["    made = _lora.create_network(*given, **more)", "    made.__class__ = Bare", "    return made"]
    (tmp_path / "own_network_without_parts.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert start(train_network.main, **common | LORA | {"network_dropout": None} | options, output_dir=tmp_path / "out") == 2
    refusal(capsys.readouterr().err, *asked)


def test_what_has_no_effect_is_told(common: dict[str, object], tmp_path: Path, capsys) -> None:
    more = {"stop_text_encoder_training": 2, "network_train_unet_only": True, "max_grad_norm_te": 1, "save_from_epoch": 2, "dry_run": True}
    more |= {"save_at_steps": "9", "sample_seed": 3}
    start(train_network.main, **common | LORA | more, output_dir=tmp_path / "out")
    output = "".join(capsys.readouterr())
    for names in (
        ("--stop_text_encoder_training:", "--network_train_unet_only"),
        ("--max_grad_norm_te:", "no effect"),
        ("--save_from_epoch:", "--save_every_n_epochs"),
        ("--save_at_steps: 9", "update 6"),
        ("--sample_seed:", "--sample_prompts"),
    ):
        message(output, *names)
