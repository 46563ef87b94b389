"""Files of weights that are there and that the drive does not read: the system's reason, and no talk of damage."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from library.containers.weights_file import open_weights
from networks import check_lora_weights
from tests.messages import refusal, refused
from tests.scripts.running import run_in_process

MEMORY = Path("/proc/self/mem")  # an ordinary file by its kind, and an error of the drive where it is read


def broken(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def unreadable(tmp_path: Path) -> Path:
    if not MEMORY.exists():
        pytest.skip("has no /proc/self/mem")
    (tmp_path / "cat.safetensors").symlink_to(MEMORY)
    return tmp_path / "cat.safetensors"


def test_a_file_that_opens_and_cannot_be_read_is_told_with_the_systems_reason(unreadable: Path) -> None:
    with refused("FILE-001", f"--vae {unreadable}", os.strerror(errno.EIO), "check the drive"):
        open_weights(unreadable, "--vae")


def test_a_tool_ends_with_that_line(unreadable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(check_lora_weights.main, unreadable) == 2
    output = capsys.readouterr().err
    refusal(output, "FILE-001", unreadable, os.strerror(errno.EIO), "check the drive")
    assert output.splitlines()[-1].endswith("[SD-FILE-001]") and "Traceback" not in output


def saved(folder: Path, kind: str) -> Path:
    """A file of one tensor, or of two with an index."""
    weights = {"weight": torch.ones(2)}
    if kind == "index":
        save_file(weights, folder / "model-00001-of-00001.safetensors")
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": {"weight": "model-00001-of-00001.safetensors"}}), encoding="utf-8")
        return path
    path = folder / f"model.{kind}"
    save_file(weights, path) if kind == "safetensors" else torch.save(weights, path)
    return path


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("safetensors", "library.containers.safetensors_header.open_file"),
        ("ckpt", "library.containers.archives.open_file"),
        ("index", "library.containers.weights_file.read_text"),
    ],
)
def test_a_drive_that_breaks_off_in_a_header_is_no_damaged_file(
    kind: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, kind)
    monkeypatch.setattr(place, broken)
    with refused("FILE-001", f"--vae {path}", os.strerror(errno.EIO), "check the drive"):
        open_weights(path, "--vae")


def test_a_drive_that_breaks_off_in_the_tensors_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, "ckpt")
    file = open_weights(path, "--vae")
    monkeypatch.setattr("library.containers.archives.Archive.read_part", broken)
    with refused("FILE-001", f"--vae {path}", os.strerror(errno.EIO), "check the drive"):
        list(file.read(["weight"]))


@pytest.mark.parametrize(("change", "reason"), [(Path.unlink, "No such file"), (lambda path: path.write_bytes(b"new"), "header")])
def test_a_file_that_changes_between_its_header_and_its_tensors_is_told(
    change: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, "safetensors")
    file = open_weights(path, "--vae")
    change(path)
    with refused("FILE-001", f"--vae {path}", reason, "download or copy it again"):
        list(file.read(["weight"]))


def test_a_file_that_is_missing_is_told_as_such(tmp_path: Path) -> None:
    with refused("PATH-001", "--vae", tmp_path / "no.safetensors"):
        open_weights(tmp_path / "no.safetensors", "--vae")
