"""A run whose output folder lies on a drive as notebooks mount them: renames fail now and then or onto files, nothing can be flushed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import train_network
from tests.scripts.running import kept, tensors_equal
from tests.scripts.starting import dataset, start


def test_a_run_on_a_drive_with_ways_of_its_own_leaves_the_same_files(
    tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos),
        "network_module": "networks.lora",
        "network_dim": 2,
        "max_train_steps": 3,
        "save_every_n_steps": 1,
        "save_last_n_steps": 1,
        "save_last_n_steps_state": 1,
        "save_state": True,
        "max_data_loader_n_workers": 0,
        "seed": 1,
    }
    assert start(train_network.main, **common, output_dir=tmp_path / "plain") == 0
    calls: dict[str, int] = {}

    def awkward(name: str) -> None:
        real = getattr(os, name)

        def call(source, target, **more):
            calls[name] = calls.get(name, 0) + 1
            if calls[name] % 3 == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(source))
            if Path(target).exists():
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            return real(source, target, **more)

        monkeypatch.setattr(os, name, call)

    def refused(number: int):
        def call(*arguments, **more):
            calls[str(number)] = calls.get(str(number), 0) + 1
            raise OSError(number, os.strerror(number))

        return call

    for name in ("replace", "rename"):
        awkward(name)
    monkeypatch.setattr(os, "fsync", refused(errno.ENOTSUP))
    monkeypatch.setattr(os, "chmod", refused(errno.EPERM))
    monkeypatch.setattr("library.renaming.time.sleep", lambda seconds: None)
    assert start(train_network.main, **common, output_dir=tmp_path / "awkward") == 0
    assert {"replace", "rename", str(errno.ENOTSUP), str(errno.EPERM)} <= calls.keys()
    assert kept(tmp_path / "awkward") == kept(tmp_path / "plain")
    assert tensors_equal(tmp_path / "awkward" / "last.safetensors", tmp_path / "plain" / "last.safetensors")
    assert (
        start(
            train_network.main,
            **{**common, "max_train_steps": 4},
            output_dir=tmp_path / "awkward",
            resume=tmp_path / "awkward" / "last-state",
        )
        == 0
    )
