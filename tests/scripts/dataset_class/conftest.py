"""A folder with the classes, in which runs start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import train_network
from tests.scripts.dataset_class.classes import write_class
from tests.scripts.running import run_in_process


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the runs; modules that are read from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    write_class(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def command(tiny_v1: Path, folder: Path):
    """`command(name, *changes)` trains a LoRA into <name>: 2 epochs of 5 batches."""

    def arguments(name: str, *changes: object, script: Any = train_network) -> list[str]:
        fixed = ["--pretrained_model_name_or_path", tiny_v1, "--dataset_class", "my_batches.Batches", "--resolution", "64,48"]
        mine = ["--network_module", "networks.lora", "--network_dim", 2] if script is train_network else []
        more = ["--output_dir", folder / name, "--output_name", "cat", "--max_train_epochs", 2, "--seed", 7, "--learning_rate", "1e-3"]
        return [str(item) for item in (*fixed, *mine, *more, "--max_data_loader_n_workers", 0, *changes)]

    def run(name: str, *changes: object, script: Any = train_network, code: int = 0) -> Path:
        assert run_in_process(script.main, *arguments(name, *changes, script=script)) == code
        return folder / name

    run.arguments = arguments  # type: ignore[attr-defined]
    return run
