"""Runs with several words, alone and with a network, that are stopped twice at random and resumed end as uninterrupted ones, bit for bit:
files, states, and what the optimizer remembers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import train_network
import train_textual_inversion
from tests.messages import refusal
from tests.scripts.running import tensors_equal
from tests.scripts.starting import start
from tests.scripts.stopping import losses, stop_after

UPDATES = 5
WORDS = {"token_string": ["<zorb>", "zorb-two"], "init_word": ["cat", "dog"], "num_vectors_per_token": [2, 1]}
BESIDE = {
    **WORDS,
    "network_module": "networks.lora",
    "network_dim": 2,
    "embedding_lr": 0.02,
    "save_words": "both",
}
RUNS: dict[str, tuple[Any, dict[str, object]]] = {
    "words": (train_textual_inversion.main, {**WORDS, "use_object_template": True, "gradient_accumulation_steps": 2}),
    "pivotal": (train_network.main, {**BESIDE, "stop_embedding_training": 2, "network_dropout": 0.3}),
    "prodigy": (
        train_network.main,
        {
            **BESIDE,
            "optimizer_type": "Prodigy",
            "learning_rate": 1.0,
            "embedding_lr": 0.5,
            "ema_decay": 0.9,
            "stop_text_encoder_training": 2,
        },
    ),
}


def config(path: Path, photos: Path) -> Path:
    """The photographs twice: in one half called by the one word, in the other half by the other."""
    text = ""
    for word in WORDS["token_string"]:
        text += f"[[datasets]]\nresolution = 64\nbatch_size = 2\n[[datasets.subsets]]\nimage_dir = '{photos}'\n"
        text += f"class_tokens = 'a {word}, photo'\ncaption_extension = '.none'\nshuffle_caption = true\n"
    path.write_text(text, encoding="utf-8")
    return path


def same(one: object, other: object) -> bool:
    """Whether two nested values are the same, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.equal(other)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    ("run", "attempt"),
    [
        pytest.param("words", 0, marks=pytest.mark.slow),
        ("pivotal", 0),
        *(pytest.param(run, attempt, marks=pytest.mark.slow) for run in RUNS for attempt in (1, 2)),
    ],
)
def test_stopped_twice_and_resumed_ends_as_one_in_one_go(run: str, attempt: int, tiny_v1: Path, photos: Path, tmp_path: Path) -> None:
    if run == "prodigy":
        pytest.importorskip("prodigyopt")
    main, own = RUNS[run]
    run_options: dict[str, object] = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": config(tmp_path / "data.toml", photos),
        "output_name": "cat",
        "save_model_as": "safetensors",
        "max_train_steps": UPDATES,
        "learning_rate": 1e-2,
        "lr_scheduler": "cosine",
        "seed": 7,
        "max_data_loader_n_workers": 0,
        "save_precision": "float",
        "save_state": True,
        **own,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with losses() as expected:
        assert start(main, **run_options, output_dir=whole) == 0
    steps = sorted(random.Random(f"{run} {attempt}").sample(range(1, UPDATES), 2))
    run_options["output_dir"] = parts
    with losses() as losses_of_the_parts:
        for step in steps:
            assert stop_after(step, main, **run_options) == 130
            run_options["resume"] = parts / f"cat-step{step:08d}-state"
        assert start(main, **run_options) == 0
    assert losses_of_the_parts == expected
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(files) >= 3
    for path in files:
        assert tensors_equal(whole / path, parts / path), path
    states = [torch.load(folder / "cat-state" / "training.pt", weights_only=True) for folder in (whole, parts)]
    assert same(*states)


def test_other_words_are_no_continuation(tiny_v1: Path, photos: Path, tmp_path: Path, capsys) -> None:
    """The vectors of all words are in one table: in another order they would be those of one another."""
    run_options: dict[str, object] = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": config(tmp_path / "data.toml", photos),
        "output_dir": tmp_path,
        "output_name": "cat",
        "max_train_steps": 1,
        "learning_rate": 1e-2,
        "save_state": True,
        **WORDS,
        "num_vectors_per_token": 1,
    }
    assert start(train_textual_inversion.main, **run_options) == 0
    run_options |= {"resume": tmp_path / "cat-state", "max_train_steps": 2}
    capsys.readouterr()
    other = {**run_options, "token_string": list(reversed(WORDS["token_string"]))}
    assert start(train_textual_inversion.main, **other) == 2
    refusal(capsys.readouterr().err, "STATE-005", "--token_string", "<zorb> zorb-two", "zorb-two <zorb>")
