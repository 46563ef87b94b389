"""One visit finds out of a file what two would, in threads as without, and leaves broken files to those who tell."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from library.data.inspection import image_signature
from library.data.inspection.first_visit import in_threads
from library.data.inspection.image_signature import look_at, visit_and_look
from library.data.scan.image_headers import Unreadable, read_header


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (200, 120)) -> Image.Image:
    rough = np.random.default_rng(seed).integers(0, 256, (6, 10, len(mode)), dtype=np.uint8)
    return Image.fromarray(rough.squeeze(), mode).resize(size)


def save_all(folder: Path) -> list[Path]:
    """Files of all kinds that are opened in ways of their own."""
    exif = Image.Exif()
    exif[274] = 6
    picture(1).save(folder / "plain.jpg")
    picture(2).save(folder / "turned.jpg", exif=exif)
    picture(3, "RGBA").save(folder / "clear.png")
    picture(4).save(folder / "late_exif.png", exif=exif, pnginfo=PngInfo())
    picture(5).save(folder / "animated.png", save_all=True, append_images=[picture(6)])
    picture(7).save(folder / "animated.gif", save_all=True, append_images=[picture(8)])
    picture(9).save(folder / "plain.webp")
    picture(10).save(folder / "plain.bmp")
    picture(11, "CMYK").save(folder / "print.jpg")
    picture(12).convert("P").save(folder / "palette.png")
    (folder / "trailing.jpg").write_bytes((folder / "plain.jpg").read_bytes()[:-2] + b"\0" * 70_000)
    return sorted(folder.iterdir())


def test_one_visit_finds_what_two_find(tmp_path: Path) -> None:
    shared = 0
    for path in save_all(tmp_path):
        header, look = visit_and_look(path)
        assert header == read_header(path), path.name
        assert look is None or look == look_at(path), path.name
        shared += look is not None
    assert shared >= 5


def test_a_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(1).save(tmp_path / "a.jpg")
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(path) or real(path, *rest, **more))
    visit_and_look(tmp_path / "a.jpg")
    assert len(opened) == 1


def test_a_broken_file_is_told_as_by_its_header(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    picture(1, size=(640, 480)).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(Unreadable) as by_header:
        read_header(tmp_path / "cut.jpg")
    with pytest.raises(Unreadable) as by_visit:
        visit_and_look(tmp_path / "cut.jpg")
    assert str(by_header.value) == str(by_visit.value)


def test_threads_keep_the_order_and_lose_nothing() -> None:
    paths = [Path(str(number)) for number in range(100)]
    assert list(in_threads(paths, lambda path: int(path.name) * 2)) == [(path, int(path.name) * 2) for path in paths]
    assert list(in_threads([], image_signature.look_at)) == []
