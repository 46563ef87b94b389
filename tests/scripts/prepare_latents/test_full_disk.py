"""The tools that write latents, on a disk that is full: a line with the place and the reason, and the next start does only the rest."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from library.data.pixels import latent_build
from library.training.caches import prepare_latents
from tests.messages import message, refusals
from tests.scripts.prepare_latents.starting import entries, prepare
from tests.scripts.running import run_in_process
from tests.scripts.starting import dataset
from tools import cache_latents

FULL = os.strerror(errno.ENOSPC)


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, int], None]:
    """A function after which a module finds no room for latents but for the first few files; -1 for as many as there are."""
    real = latent_build.write_latents

    def filled(module: object, room: int) -> None:
        files = itertools.count()  # of both threads that write

        def write(file: Path, *rest: object) -> None:
            if 0 <= room <= next(files):
                raise OSError(errno.ENOSPC, FULL, str(file))
            real(file, *rest)

        monkeypatch.setattr(module, "write_latents", write)

    return filled


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    output = capsys.readouterr().err
    assert "Traceback" not in output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def test_latents_that_find_no_room_are_told_with_the_other_faults_and_the_metadata_is_not_written(
    folder: Path, tiny_v1: Path, fill: Callable[[object, int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "pictures" / "0.png").write_bytes(b"no image")
    fill(latent_build, 1)
    assert prepare(folder, tiny_v1) == 2
    place = folder / "pictures"
    refusals(errors(capsys), ("DATA-001", place / "0.png"), ("DISK-003", "train_data_dir", place, FULL, "out.json", "--skip_existing"))
    assert not (folder / "out.json").exists() and len(list(place.glob("*.npz"))) == 1
    fill(latent_build, -1)
    assert prepare(folder, tiny_v1, "--skip_existing") == 1
    message(capsys.readouterr().err, "latents: 1 of 2", "on disk")
    assert [name for name, entry in entries(folder).items() if "train_resolution" in entry] == ["1", "2"]


@pytest.mark.parametrize(("more", "name"), [(("--alpha_mask", "yes"), "0.npz"), (("--flip_aug",), "0_flip.npz")])
def test_masks_and_mirror_images_that_find_no_room_are_told_by_their_files(
    more: tuple[str, ...], name: str, folder: Path, tiny_v1: Path, fill: Callable[[object, int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fill(prepare_latents, 0)
    assert prepare(folder, tiny_v1, *more) == 2
    refusals(errors(capsys), ("DISK-003", "train_data_dir", folder / "pictures" / name, FULL, "--skip_existing"))
    assert not (folder / "out.json").exists()
    fill(prepare_latents, -1)
    assert prepare(folder, tiny_v1, *more, "--skip_existing") == 0
    message(capsys.readouterr().err, "latents: 3 of 3", "on disk")


@pytest.mark.parametrize("option", ["--dataset_config", "--train_data_dir"])
def test_a_cache_that_finds_no_room_is_told_with_the_option_that_names_the_images(
    option: str, folder: Path, tiny_v1: Path, fill: Callable[[object, int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "sets" / "1_shs dog"
    place.parent.mkdir()
    (folder / "pictures").rename(place)
    (place / "0.png").write_bytes(b"no image")
    named = folder / "sets"
    if option == "--dataset_config":
        named = dataset(folder / "data.toml", place, subset="class_tokens = 'dog'")
    argv = ["--pretrained_model_name_or_path", tiny_v1, option, named, "--resolution", 64]
    fill(latent_build, 1)
    assert run_in_process(cache_latents.main, *argv) == 2
    refusals(errors(capsys), ("DATA-001", place / "0.png"), ("DISK-003", option, place, FULL, "free some space", "start again"))
    fill(latent_build, -1)
    assert run_in_process(cache_latents.main, *argv) == 1
    message(capsys.readouterr().err, "latents: 1 of 2", "on disk")


def test_a_full_disk_ends_the_encoding(
    folder: Path, tiny_v1: Path, fill: Callable[[object, int], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hours of encoding would end with the same line."""
    for number in range(3, 60):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / "pictures" / f"{number}.png")
    loaded, load = [], latent_build.load_image

    def counting(record: object, *rest: object) -> object:
        loaded.append(record)
        return load(record, *rest)

    monkeypatch.setattr(latent_build, "load_image", counting)
    fill(latent_build, 0)
    argv = ["--pretrained_model_name_or_path", tiny_v1, "--train_data_dir", folder / "sets", "--resolution", 64]
    (folder / "sets").mkdir()
    (folder / "pictures").rename(folder / "sets" / "1_dog")
    assert run_in_process(cache_latents.main, *argv) == 2
    output = capsys.readouterr().err
    assert "DISK-003" in output and "in memory" not in output
    assert len(loaded) < 50
