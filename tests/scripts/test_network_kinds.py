"""train_network.py with every kind of network and start, and LyCORIS' LoKr and DoRA: they train, go on bit for bit, and load back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file

import train_network
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start

KINDS = {
    "networks.dylora": ("networks.dylora", ["unit=2", "conv_dim=2"]),
    "networks.lora_fa": ("networks.lora_fa", ["conv_dim=2", "rank_dropout=0.2"]),
    "networks.dora": ("networks.dora", ["conv_dim=2", "rank_dropout=0.2", "rs_lora=True"]),
    "dora by input": ("networks.dora", ["wd_on_output=False"]),
    "pissa": ("networks.lora", ["init=pissa", "conv_dim=2", "rank_dropout=0.2"]),
    "olora": ("networks.lora", ["init=olora", "rs_lora=True"]),
    "orthogonal": ("networks.lora", ["init=orthogonal", "network_reg_dims=attn2=2"]),
}
OF_THE_START = ("conv_dim", "init", "rs_lora", "network_reg_dims")  # what a file says by itself
LYCORIS = {"lokr": (["algo=lokr", "factor=4"], ".lokr_w1"), "dora": (["algo=lora", "dora_wd=True"], ".dora_scale")}


@pytest.fixture
def common(tiny_v1: Path, photos: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos),
        "learning_rate": 1e-2,
        "max_data_loader_n_workers": 0,
        "seed": 3,
        "save_precision": "float",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_two_parts_ends_as_one_in_one_go(common: dict[str, object], tmp_path: Path, kind: str) -> None:
    module, args = KINDS[kind]
    options = {**common, "network_dim": 4, "network_args": args, "network_module": module, "network_alpha": 2}
    first_part = random.Random(kind).randint(1, 2)
    assert start(train_network.main, **options, output_dir=tmp_path / "whole", max_train_steps=3) == 0
    parts = {**options, "output_dir": tmp_path / "parts"}
    assert start(train_network.main, **parts, max_train_steps=first_part, save_state=True) == 0
    first = load((tmp_path / "parts" / "last.safetensors").read_bytes())  # not mapped: Windows would let nothing take its place
    assert start(train_network.main, **parts, max_train_steps=3, resume=tmp_path / "parts" / "last-state") == 0
    assert tensors_equal(tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")
    last = load_file(tmp_path / "parts" / "last.safetensors")
    moved = {kind: sum(not torch.equal(first[name], last[name]) for name in last if kind in name) for kind in ("lora_down", "lora_up")}
    ups = sum("lora_up" in name for name in last)
    assert moved["lora_up"] >= ups - 2  # attention over a single pixel has no gradient in q and k
    assert moved["lora_down"] == 0 if module == "networks.lora_fa" else moved["lora_down"] > 0.9 * ups
    more = {
        **options,
        "output_dir": tmp_path / "more",
        "network_weights": tmp_path / "whole" / "last.safetensors",
        "dim_from_weights": True,
    }
    more["network_args"] = [item for item in args if not item.startswith(OF_THE_START)]
    assert start(train_network.main, **more, max_train_steps=1) == 0
    assert load_file(tmp_path / "more" / "last.safetensors").keys() == last.keys()


@pytest.mark.parametrize("kind", LYCORIS)
def test_lycoris_kinds_train_and_save(common: dict[str, object], tmp_path: Path, kind: str) -> None:
    pytest.importorskip("lycoris.kohya")
    args, mark = LYCORIS[kind]
    options = {**common, "network_module": "lycoris.kohya", "network_args": args, "network_dim": 4, "network_alpha": 4}
    assert start(train_network.main, **options, output_dir=tmp_path / "out", max_train_steps=1) == 0
    saved = load_file(tmp_path / "out" / "last.safetensors")
    assert any(mark in name for name in saved) and all(tensor.isfinite().all() for tensor in saved.values())
