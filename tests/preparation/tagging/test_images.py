"""Images reach the tagger as it was trained, in the batches and threads asked for; what goes wrong with one costs no other."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.preparation.wd14 import Tagger, square
from tests.messages import refusal, refusals
from tests.paths.wrong_places import another_user
from tests.preparation.tagging.starting import ALWAYS, colour, tag, tags
from tests.preparation.tiny_tagger import SIDE, write_tagger


def test_a_name_that_is_too_long_is_told_as_such_and_the_rest_is_done(folder: Path, model: Path, capsys) -> None:
    for length in (238, 247, 251):  # with .txt all fit; the name that is written to first has to as well
        shutil.copy(folder / "blue.png", folder / f"{'n' * (length - 4)}.png")
    assert tag(folder, model) == 0 and len(list(folder.glob("n*.txt"))) == 3
    shutil.copy(folder / "blue.png", folder / f"{'か' * 83}.png")
    assert tag(folder, model, "--caption_extension", ".caption") == 1
    error = capsys.readouterr().err
    refusal(error, "PATH-008", folder, "rename it")
    assert "writable" not in error
    assert (folder / "blue.caption").is_file()


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("flags", [(), ("--batch_size", 4, "--max_data_loader_n_workers", 2), ("--max_data_loader_n_workers", 0)])
def test_batches_and_threads_change_nothing(folder: Path, tmp_path: Path, batch: int | None, flags: tuple) -> None:
    shades = [(0.4, 0, 0), (0, 0.4, 0), (0, 0, 0.4), (1, 1, 0), (0, 0, 0)]
    for number, shade in enumerate(shades):
        colour(folder / f"{number}.png", *shade)
    assert tag(folder, write_tagger(tmp_path / "tagger", batch=batch), *flags) == 0
    names = ("blue_sky", "green_grass", "red_rose")
    for number, shade in enumerate(shades):
        expected = [name for name, share in zip(names, shade, strict=True) if share]
        assert tags(folder, str(number)) == ", ".join([*expected, ALWAYS, "miku_(someone)"])


def test_an_image_is_padded_to_a_square_on_white_in_its_middle_and_handed_over_as_bgr() -> None:
    pixels = np.zeros((10, 40, 3), dtype=np.uint8)
    pixels[...] = (10, 20, 30)  # red, green, blue
    ready = square(pixels, 40)
    assert ready.shape == (40, 40, 3) and ready.dtype == np.float32
    assert (ready[15:25] == (30, 20, 10)).all()
    assert (ready[:15] == 255).all() and (ready[25:] == 255).all()


def test_hidden_colours_and_exif_rotation_do_not_reach_the_tagger(tmp_path: Path, model: Path) -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (Tagger(model).prepare(tmp_path / "clear.png") == 255).all()
    half = Image.new("RGB", (40, 20), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    half.save(tmp_path / "turned.jpg", exif=exif)
    ready = Tagger(model).prepare(tmp_path / "turned.jpg")
    assert (ready[:, : SIDE // 5] == 255).all() and ready[0, SIDE // 2].max() < 10  # upright: white at its sides


def test_batch_size_and_threads_are_those_asked_for(folder: Path, model: Path, monkeypatch) -> None:
    sizes, threads = [], set()
    describe, prepare = Tagger.describe, Tagger.prepare

    def spy_describe(self: Tagger, images: np.ndarray, paths: list[Path]) -> np.ndarray:
        sizes.append(len(images))
        return describe(self, images, paths)

    def spy_prepare(self: Tagger, path: Path) -> np.ndarray:
        threads.add(threading.current_thread().name.rpartition("_")[0])
        return prepare(self, path)

    monkeypatch.setattr(Tagger, "describe", spy_describe)
    monkeypatch.setattr(Tagger, "prepare", spy_prepare)
    colour(folder / "third.png", red=1)
    assert tag(folder, model, "--batch_size", 2, "--max_data_loader_n_workers", 1) == 0
    assert (sizes, threads) == ([2, 1], {"read-ahead"})
    sizes.clear(), threads.clear()
    assert tag(folder, model, "--max_data_loader_n_workers", 0) == 0
    assert (sizes, threads) == ([1, 1, 1], {""})  # the main thread


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights of folders")
def test_a_read_only_folder_is_told_once_and_the_rest_is_done(folder: Path, model: Path, capsys) -> None:
    colour(folder / "closed" / "x.png"), colour(folder / "closed" / "y.png")
    (folder / "closed").chmod(0o500)
    with another_user():
        assert tag(folder, model, "--recursive") == 1
    (folder / "closed").chmod(0o700)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(lines, ("PATH-005", folder / "closed", "2 files", "Permission denied", "writable"), ("TOOL-001", "2 images"))


def test_images_in_a_folder_without_the_right_to_write_are_not_even_read(folder: Path, model: Path, monkeypatch, capsys) -> None:
    colour(folder / "closed" / "x.png")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: not str(path).endswith("closed") and access(path, mode, **more))
    monkeypatch.setattr(Tagger, "prepare", lambda self, path, own=Tagger.prepare: own(self, path) if path.parent == folder else 1 / 0)
    assert tag(folder, model, "--recursive") == 1
    refusal(capsys.readouterr().err, "PATH-005", folder / "closed", "1 file", "Permission denied")
    assert tag(folder / "closed", model) == 2  # nothing at all could be done
    refusals([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")], ("PATH-005", "1 file"))


def test_a_broken_image_and_a_file_that_cannot_be_written_are_told_and_the_rest_is_done(folder: Path, model: Path, capsys) -> None:
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "blue.txt").mkdir()
    assert tag(folder, model, "--batch_size", 8) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(errors, ("DATA-001", folder / "broken.png"), ("PATH-005", folder, "1 file"), ("TOOL-001", "1 image"))
    assert tags(folder, "red").startswith("red_rose")
    assert sorted(path.name for path in folder.iterdir()) == ["blue.png", "blue.txt", "broken.png", "red.png", "red.txt"]


def test_a_tag_file_in_another_encoding_is_left_alone_with_append(folder: Path, model: Path, capsys) -> None:
    (folder / "blue.txt").write_bytes(b"caf\xe9")
    assert tag(folder, model, "--append_tags") == 1
    refusal(capsys.readouterr().err, "DATA-004", folder / "blue.txt", "UTF-8")
    assert (folder / "blue.txt").read_bytes() == b"caf\xe9"
