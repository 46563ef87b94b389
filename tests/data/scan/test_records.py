"""Scanning images: which files they are, sizes upright, all errors reported at once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.data.config.folders import from_folders
from library.data.pixels.images import read_rgb
from library.data.scan.image_headers import Unreadable, read_header
from library.data.scan.records import scan
from library.errors import UserError
from tests.data.material import photo, photos, read
from tests.data.scan.scanning import faults, one_folder, scanned, write
from tests.messages import message, refusal, refusals, refused

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}


def test_images_are_found_in_any_letter_case_and_hold_one_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.JPeG", "c.webp", "d.Bmp"):
        photo(tmp_path / "dog" / name)
    photo(tmp_path / "dog/deeper/e.png")
    write(tmp_path / "dog/notes.md", "no image")
    assert [record.path.name for record in scanned(tmp_path, "class_tokens = 'x'").records] == ["a.JPeG", "b.PNG", "c.webp", "d.Bmp"]


@pytest.mark.parametrize("ending", FORMATS)
def test_cut_files_are_found_without_decoding_and_whole_ones_pass(tmp_path: Path, ending: str) -> None:
    path = photo(tmp_path / f"x{ending}", (150, 120))
    assert read_header(path).size == (150, 120) and read_header(path).format == FORMATS[ending]
    data = path.read_bytes()
    for keep in (0.5, 0.9):
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(Unreadable):
            read_header(path)
    path.write_bytes(b"")
    with pytest.raises(Unreadable, match="empty"):
        read_header(path)


def test_end_of_an_exif_thumbnail_is_not_taken_for_the_end_of_the_picture(tmp_path: Path) -> None:
    whole = photo(tmp_path / "x.jpg")
    exif = b"Exif\0\0" + photo(tmp_path / "thumbnail.jpg", (16, 16)).read_bytes()
    data = whole.read_bytes()
    data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    whole.write_bytes(data)
    assert read_header(whole).size == (96, 64)
    whole.write_bytes(data[:-400])
    with pytest.raises(Unreadable, match="truncated"):
        read_header(whole)


def test_things_appended_behind_a_picture_do_not_make_it_cut(tmp_path: Path) -> None:
    for ending in (".png", ".jpg"):
        path = photo(tmp_path / f"x{ending}")
        path.write_bytes(path.read_bytes() + b"\0" * 100_000)
        assert read_header(path).size == (96, 64)


def test_header_of_a_whole_image_is_read_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [photo(tmp_path / f"x{ending}") for ending in FORMATS]

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    assert [read_header(path).size for path in paths] == [(96, 64)] * 4


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (96, 64)), (3, (96, 64)), *((turned, (64, 96)) for turned in (5, 6, 7, 8))])
def test_size_is_that_after_exif_rotation(tmp_path: Path, ending: str, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(photo(tmp_path / f"x{ending}")).save(tmp_path / f"y{ending}", exif=exif)
    assert read_header(tmp_path / f"y{ending}").size == size


def test_all_unreadable_images_are_listed_together_or_left_out_on_demand(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 2)
    write(tmp_path / "dog/zero.jpg", b"")
    write(tmp_path / "dog/text.png", b"<html>not found</html>")
    data = photo(tmp_path / "dog/cut.png").read_bytes()
    write(tmp_path / "dog/cut.png", data[: len(data) // 2])
    lines = faults(tmp_path, "class_tokens = 'x'")
    assert [os.path.basename(line.split(": ")[0]) for line in lines] == ["cut.png", "text.png", "zero.jpg"]  # noqa: PTH119
    refusals(lines, ("DATA-001", "truncated"), ("DATA-001", "not an image"), ("DATA-001", "empty"))
    result = scanned(tmp_path, "class_tokens = 'x'", skip_unreadable=True)
    assert len(result.records) == 2 and sum("skipped: image" in finding for finding in result.findings) == 3


def test_large_images_are_reported_not_refused(tmp_path: Path) -> None:
    photo(tmp_path / "dog/b.png", (3001, 128))
    photo(tmp_path / "dog/c.png", (3000, 128))
    (finding,) = scanned(tmp_path, "class_tokens = 'x'").findings
    assert "b.png (3001×128)" in finding and "c.png" not in finding


def test_jpeg_named_png_is_an_image_like_any_other(tmp_path: Path) -> None:
    photo(tmp_path / "dog/x.jpg").rename(tmp_path / "dog/x.png")
    assert scanned(tmp_path, "class_tokens = 'x'").records[0].size == (96, 64)
    assert read_header(tmp_path / "dog/x.png").format == "JPEG"


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    photo(tmp_path / "dog/a.png", (128, 128))
    photo(tmp_path / "dog/.thumbnail.png", (128, 128))
    write(tmp_path / "dog/._a.png", b"\0\5\26\7 what a Mac writes beside a.png")
    result = scanned(tmp_path, "class_tokens = 'x'")
    assert [record.path.name for record in result.records] == ["a.png"] and result.findings == ()


def test_an_image_of_two_datasets_is_told_once(tmp_path: Path) -> None:
    photo(tmp_path / "dog/a.png", (100, 100))
    photo(tmp_path / "dog/b.png", (3200, 200))
    subset = f"[[datasets.subsets]]\nimage_dir = '{tmp_path / 'dog'}'\nclass_tokens = 'x'\n"
    text = f"[[datasets]]\nresolution = 64\n{subset}[[datasets]]\nresolution = 128\n{subset}"
    (large,) = scan(read(tmp_path, text)).findings
    message([large], "1 image", "over 3000 px", "b.png")
    write(tmp_path / "dog/c.png", b"")
    with pytest.raises(UserError) as caught:
        scan(read(tmp_path, text))
    assert len(caught.value.problems) == 1


def test_a_link_that_leads_nowhere_is_not_told_as_damage(tmp_path: Path) -> None:
    photo(tmp_path / "dog/a.png")
    try:
        (tmp_path / "dog/b.png").symlink_to("gone.png")
    except OSError:
        pytest.skip("no right to create links here")
    (line,) = faults(tmp_path, "class_tokens = 'x'")
    refusal([line], "DATA-001", tmp_path / "dog/b.png", "cannot be opened")
    assert "damaged" not in line


def test_pictures_of_kinds_that_cannot_be_read_are_counted_by_ending_in_the_run(tmp_path: Path) -> None:
    photo(tmp_path / "set/a.png", (200, 200))
    for name in ("b.jxl", "c.JXL", "d.psd", "e.jfif", "._f.jxl", "notes.txt"):
        (tmp_path / "set" / name).write_bytes(b"x")
    findings = scan(read(tmp_path, one_folder(tmp_path / "set"))).findings
    line = message(findings, f"'{tmp_path / 'set'}'", "2 .jxl, 1 .jfif, 1 .psd (b.jxl, c.JXL, d.psd and 1 more)")
    message([line], ".png or .jpg", "pillow-jxl-plugin")


def test_a_folder_of_nothing_else_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.jxl").write_bytes(b"x")
    with refused("DATA-003", tmp_path / "set", "1 .jxl file", ".png or .jpg", "pillow-jxl-plugin"):
        read(tmp_path, one_folder(tmp_path / "set"))
    (tmp_path / "parent").mkdir()
    (tmp_path / "set").rename(tmp_path / "parent/10_shs dog")
    with refused("DATA-003", "'10_shs dog' (1 image", "1 .jxl"):
        from_folders(tmp_path / "parent", None, {"resolution": "64"})


@pytest.mark.parametrize("ending", [".gif", ".tif", ".TIFF", ".avif"])
def test_other_formats_that_pillow_reads_are_trained(tmp_path: Path, ending: str) -> None:
    (tmp_path / "set").mkdir()
    first = Image.new("RGB", (160, 140), (10, 200, 30))
    kind = {".gif": "GIF", ".avif": "AVIF"}.get(ending, "TIFF")
    more = {"save_all": True, "append_images": [Image.new("RGB", (160, 140), (200, 0, 0))]} if kind == "GIF" else {}
    first.save(tmp_path / f"set/a{ending}", format=kind, **more)
    (record,) = scan(read(tmp_path, one_folder(tmp_path / "set"))).records
    assert record.size == (160, 140)
    assert np.abs(read_rgb(record.path)[70, 80].astype(int) - (10, 200, 30)).max() < 8
