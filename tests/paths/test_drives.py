"""Drives that do not answer: every option that names something on one is refused in a line that says so."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from library.data.config.build import read_config
from library.errors import Problem
from library.model.files.locate import locate
from library.options.declare import Script
from library.options.groups.scripts import SCRIPTS
from library.options.tool_groups.table import TOOLS
from library.paths.faults import file_fault, folder_fault, new_file_fault, tree_fault
from networks import check_lora_weights
from tests.data.material import BOTH, config
from tests.messages import refusal, refused
from tests.paths.test_options import path_options, start_script, start_tool
from tests.paths.wrong_places import made
from tests.scripts.running import run_in_process

SILENT = os.strerror(errno.EIO)


@pytest.fixture
def places() -> Iterator[dict[str, str]]:
    with made() as folders:
        yield folders


def silence(monkeypatch: pytest.MonkeyPatch, call: str, path: Path | str) -> None:
    """The system call fails for this path and what is below it, as where a cable is loose."""
    real = getattr(os, call)

    def answer(asked: object, *more: object, **options: object) -> object:
        if isinstance(asked, str | Path) and Path(asked).absolute().is_relative_to(path):
            raise OSError(errno.EIO, SILENT, str(asked))
        return real(asked, *more, **options)

    monkeypatch.setattr(os, call, answer)


@pytest.mark.parametrize("spec", (*SCRIPTS, *TOOLS), ids=lambda spec: spec.name)
def test_every_option_that_names_something_on_it_is_refused(
    spec: type[Script], places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Path(places["folder"]) / "drive"
    silence(monkeypatch, "stat", drive)
    for option in path_options(spec):
        if option.path in ("part of a name", "part of a path") or (option.field == "report_html" and spec in TOOLS):
            continue  # the page has no effect on tools
        start = start_tool if spec in TOOLS else start_script
        with refused("PATH-010", option.field, drive / "x", SILENT, "check the drive"):
            start(spec, option, str(drive / "x"), places)


def test_a_tool_ends_with_that_line(places: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    silence(monkeypatch, "stat", places["file"])
    assert run_in_process(check_lora_weights.main, places["file"]) == 2
    output = capsys.readouterr().err
    refusal(output, "PATH-010", places["file"], SILENT, "check the drive")
    assert output.splitlines()[-1].endswith("[SD-PATH-010]") and "Traceback" not in output


def test_a_folder_of_a_dataset_on_it_is_refused(places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{places['folder']}'\nclass_tokens = 'cat'\n"
    silence(monkeypatch, "stat", places["folder"])
    with refused("PATH-010", "image_dir", places["folder"], SILENT, "check the drive"):
        read_config(config(tmp_path / "set.toml", text), {}, BOTH)


@pytest.mark.parametrize(("call", "fault", "place"), [("open", file_fault, "file"), ("scandir", folder_fault, "folder")])
def test_what_is_there_and_cannot_be_opened_is_refused(
    call: str, fault: Callable[[str], Problem | None], place: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    silence(monkeypatch, call, places[place])
    refusal([fault(places[place])], "PATH-010", places[place], SILENT, "check the drive")


@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_file_in_a_folder_of_a_model_is_refused(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    assert tree_fault(tmp_path) is None
    silence(monkeypatch, call, weights)
    with refused("PATH-010", "--vae", weights, SILENT, "check the drive"):
        locate(str(tmp_path), "--vae")


def test_a_drive_that_does_not_exist_is_refused_before_something_is_written_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a letter without a drive; elsewhere there is always the root."""

    def nothing(path: object, *_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    place = Path("/drive/out.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", nothing)
        fault = new_file_fault(place)
    refusal([fault], "PATH-010", place, "drive does not exist", "use a folder that can be created")
