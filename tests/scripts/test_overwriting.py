"""A run that overwrites a file of an earlier run says so once, before it trains; a resumed run does not."""

from __future__ import annotations

from pathlib import Path

import pytest

import train_network
from tests.messages import message
from tests.scripts.starting import dataset, start

SAID = "already exists and will be overwritten"


def test_a_run_says_what_it_overwrites_and_a_resumed_one_does_not(
    tiny_v1: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos),
        "output_dir": tmp_path / "out",
        "output_name": "cat",
        "network_module": "networks.lora",
        "network_dim": 2,
        "seed": 7,
        "cache_latents": True,
        "max_data_loader_n_workers": 0,
    }

    def said(**more: object) -> list[str]:
        assert start(train_network.main, **(given | more)) == 0
        out = capsys.readouterr()
        return [line for line in (out.out + out.err).splitlines() if SAID in line]

    assert said(max_train_steps=1, save_state=True) == []
    assert said(max_train_steps=2, resume=tmp_path / "out" / "cat-state") == []
    assert said(max_train_steps=1, debug_dataset=True) == []  # nothing is written
    before = (tmp_path / "out" / "cat.safetensors").read_bytes()
    (line,) = said(max_train_steps=1, learning_rate=0.01)
    message(line, "warning", "--output_dir", tmp_path / "out", "cat.safetensors", "choose another --output_name")
    assert (tmp_path / "out" / "cat.safetensors").read_bytes() != before
    (planned,) = said(max_train_steps=1, dry_run=True)
    assert line.removeprefix("warning: ").split("; ")[0] in planned  # what the dry run says too
    assert said(max_train_steps=1, output_name="dog") == []
