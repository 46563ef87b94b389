"""Scanning images and captions: sizes upright, captions by the rules, all errors reported at once."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.data.config.folders import from_folders
from library.data.pixels.images import read_rgb
from library.data.scan.image_headers import Unreadable, read_header
from library.data.scan.records import Scan, scan
from library.errors import Problem, UserError
from tests.data.material import photo, photos, read
from tests.messages import message, refusal, refusals, refused

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}


def scanned(folder: Path, subset: str, **options: bool) -> Scan:
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{folder / 'dog'}'\n{subset}\n"
    return scan(read(folder, text), **options)


def faults(folder: Path, subset: str) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as error:
        scanned(folder, subset)
    return error.value.problems


def write(path: Path, text: str | bytes) -> None:
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def test_caption_comes_from_the_file_beside_the_image_else_from_class_tokens(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 3)
    write(tmp_path / "dog/00.caption", "a dog \r\nsecond line")
    write(tmp_path / "dog/01.caption", b"\xef\xbb\xbf" + "犬, 草".encode())
    records = scanned(tmp_path, "class_tokens = 'shs dog'").records
    assert [record.caption for record in records] == ["a dog", "犬, 草", "shs dog"]
    assert [record.key for record in records] == ["0/0/00.png", "0/0/01.png", "0/0/02.png"]
    assert records[0].size == (96, 64) and records[0].path == tmp_path / "dog/00.png"


def test_an_empty_caption_extension_reads_no_files(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 2)
    write(tmp_path / "dog/00.caption", "a dog")
    write(tmp_path / "dog/01.txt", "a dog")
    write(tmp_path / "dog/01", "a file without an ending")
    result = scanned(tmp_path, "caption_extension = ''\nclass_tokens = 'shs dog'")
    assert [record.caption for record in result.records] == ["shs dog", "shs dog"]
    assert not [line for line in result.findings if "next to them" in line]
    refusals(faults(tmp_path, "caption_extension = ''"), ("DATA-005", "datasets[0].subsets[0]", "caption_extension", "class_tokens"))


def test_images_are_found_in_any_letter_case_and_hold_one_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.JPeG", "c.webp", "d.Bmp"):
        photo(tmp_path / "dog" / name)
    photo(tmp_path / "dog/deeper/e.png")
    write(tmp_path / "dog/notes.md", "no image")
    assert [record.path.name for record in scanned(tmp_path, "class_tokens = 'x'").records] == ["a.JPeG", "b.PNG", "c.webp", "d.Bmp"]


def test_neither_caption_nor_class_tokens_names_the_images_and_the_captions_beside_them(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 12)
    for n in range(12):
        write(tmp_path / f"dog/{n:02}.txt", "a dog")
    (line,) = faults(tmp_path, "")
    refusal([line], "DATA-005", "set.toml: datasets[0].subsets[0]:", "12 of 12 images", "00.png, 01.png, 02.png, 03.png, 04.png", "7 more")
    refusal([line], "DATA-005", "12 .txt files", 'caption_extension = ".txt"')
    assert scanned(tmp_path, 'caption_extension = ".txt"').records[0].caption == "a dog"


def test_captions_that_class_tokens_push_aside_are_told(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 2)
    write(tmp_path / "dog/00.txt", "a dog")
    write(tmp_path / "dog/00.npz", "no caption")
    (finding,) = (one for one in scanned(tmp_path, "class_tokens = 'shs dog'").findings if "class_tokens" in one)
    message([finding], "2 of 2 images", "1 .txt file", 'caption_extension = ".txt"')
    (tmp_path / "dog/00.txt").unlink()
    assert not [one for one in scanned(tmp_path, "class_tokens = 'shs dog'").findings if "class_tokens" in one]


@pytest.mark.parametrize("data", ["Hündchen".encode("latin-1"), "犬".encode("cp932"), "dog".encode("utf-16")])
def test_caption_of_another_encoding_is_an_error_naming_the_file(tmp_path: Path, data: bytes) -> None:
    photos(tmp_path / "dog", 1)
    write(tmp_path / "dog/00.caption", data)
    refusals(faults(tmp_path, "class_tokens = 'x'"), ("DATA-004", tmp_path / "dog/00.caption", "UTF-8"))


@pytest.mark.parametrize("more", ["", "enable_wildcard = true"])
def test_a_caption_of_megabytes_is_refused_before_it_is_split_into_tokens(tmp_path: Path, more: str) -> None:
    photos(tmp_path / "dog", 1)
    write(tmp_path / "dog/00.caption", "dog\n" * bool(more) + "dog, " * 30_000)
    refusals(faults(tmp_path, more), ("DATA-028", tmp_path / "dog/00.caption", 149_999, "remove the file"))
    write(tmp_path / "dog/00.caption", "dog, " * 20_000 + "\n" + "\n".join(["dog " * 10_000] * 5))
    assert len(scanned(tmp_path, more).records) == 1


def test_empty_caption_is_told_and_allowed(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 1)
    write(tmp_path / "dog/00.caption", "")
    result = scanned(tmp_path, "")
    assert result.records[0].caption == ""
    message(result.findings[:1], "1 caption file", "empty", "00.caption")


def test_face_box_in_the_name_may_be_missing_from_the_captions_name(tmp_path: Path) -> None:
    photo(tmp_path / "dog/girl_40_30_20_20.png")
    write(tmp_path / "dog/girl.caption", "a girl")
    assert scanned(tmp_path, "").records[0].caption == "a girl"


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


def test_caption_of_other_letter_case_counts_where_the_file_system_takes_both_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(tmp_path / "dog/Park.PNG", (128, 128))
    write(tmp_path / "dog/park.TXT", "a dog")
    subset = "class_tokens = 'x'\ncaption_extension = '.txt'"
    monkeypatch.setattr("os.path.normcase", str)
    assert scanned(tmp_path, subset).records[0].caption == "x"
    monkeypatch.setattr("os.path.normcase", lambda name: str(name).lower())  # as on Windows
    assert scanned(tmp_path, subset).records[0].caption == "a dog"


def test_captions_of_nothing_but_commas_are_told_as_empty(tmp_path: Path) -> None:
    photo(tmp_path / "dog/a.png", (128, 128))
    write(tmp_path / "dog/a.caption", " , ,, ")
    (finding,) = scanned(tmp_path, "").findings
    message([finding], "1 caption file", "empty", "a.caption")


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


def test_empty_class_tokens_are_told_and_allowed(tmp_path: Path) -> None:
    photo(tmp_path / "dog/a.png", (128, 128))
    (finding,) = scanned(tmp_path, "class_tokens = ' '").findings
    message([finding], "class_tokens", "1 image")


def test_caption_is_found_whether_its_name_is_composed_or_not(tmp_path: Path) -> None:
    """Macs write 강 in two or three signs, other systems in one."""
    photo(tmp_path / "dog" / unicodedata.normalize("NFD", "강아지.png"), (128, 128))
    write(tmp_path / "dog" / unicodedata.normalize("NFC", "강아지.caption"), "a dog")
    photo(tmp_path / "dog" / unicodedata.normalize("NFC", "が.png"), (128, 128))
    write(tmp_path / "dog" / unicodedata.normalize("NFD", "が.caption"), "a cat")
    assert sorted(record.caption for record in scanned(tmp_path, "").records) == ["a cat", "a dog"]


def test_a_link_that_leads_nowhere_is_not_told_as_damage(tmp_path: Path) -> None:
    photo(tmp_path / "dog/a.png")
    try:
        (tmp_path / "dog/b.png").symlink_to("gone.png")
    except OSError:
        pytest.skip("no right to create links here")
    (line,) = faults(tmp_path, "class_tokens = 'x'")
    refusal([line], "DATA-001", tmp_path / "dog/b.png", "cannot be opened")
    assert "damaged" not in line


def one_folder(folder: Path, more: str = "class_tokens = 'x'") -> str:
    return f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{folder}'\n{more}\n"


def test_pictures_of_kinds_that_cannot_be_read_are_counted_by_ending_in_the_run(tmp_path: Path) -> None:
    photo(tmp_path / "set/a.png", (200, 200))
    for name in ("b.jxl", "c.JXL", "d.psd", "e.jfif", "._f.jxl", "notes.txt"):
        (tmp_path / "set" / name).write_bytes(b"x")
    findings = scan(read(tmp_path, one_folder(tmp_path / "set"))).findings
    line = message(findings, f"'{tmp_path / 'set'}'", "2 .jxl, 1 .psd, 1 .jfif (b.jxl, c.JXL, d.psd and 1 more)")
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


def test_further_lines_of_captions_are_told_with_their_count(tmp_path: Path) -> None:
    for name, text in (("a", "tag1,\ntag2\n\ntag3\n"), ("b", "one\r\ntwo"), ("c", "whole\n")):
        photo(tmp_path / f"set/{name}.png", (200, 200))
        (tmp_path / f"set/{name}.caption").write_text(text, encoding="utf-8", newline="")
    (line,) = scan(read(tmp_path, one_folder(tmp_path / "set"))).findings
    message([line], "2 caption files", "a.caption, b.caption", "3 more lines")


def test_commas_of_other_scripts_are_told(tmp_path: Path) -> None:
    for name, text in (("a", "1girl，solo"), ("b", "帽子、少女"), ("c", "1girl, solo")):
        photo(tmp_path / f"set/{name}.png", (200, 200))
        (tmp_path / f"set/{name}.caption").write_text(text, encoding="utf-8")
    line, _ = scan(read(tmp_path, one_folder(tmp_path / "set"))).findings
    message([line], "2 captions", "， or 、", "a.png, b.png", "plain comma")
    meta = tmp_path / "m.json"
    meta.write_text('{"a": {"tags": "1girl，solo"}, "b": {"caption": "x"}, "c": {"caption": "x"}}', encoding="utf-8")
    (line,) = scan(read(tmp_path, one_folder(tmp_path / "set", f"metadata_file = '{meta}'"))).findings
    message([line], "1 caption", "，", "a.png")


def test_captions_in_other_scripts_are_counted_with_the_first(tmp_path: Path) -> None:
    texts = {"a": "a café, naïve Việt Nam, “dog” ♥ 🐕 (・)", "b": "내 강아지", "c": "photo of 私の犬", "d": "собака"}
    for name, text in texts.items():
        photo(tmp_path / f"set/{name}.png", (200, 200))
        (tmp_path / f"set/{name}.caption").write_text(text, encoding="utf-8")
    (line,) = scan(read(tmp_path, one_folder(tmp_path / "set"))).findings
    message([line], "3 captions", "Latin", "b.png (“내 강아지”)", "class_tokens in English")


@pytest.mark.parametrize("key", ["class_tokens = '私の犬'", "class_tokens = 'dog'\ncaption_prefix = '내'"])
def test_class_tokens_and_prefixes_in_other_scripts_are_told(tmp_path: Path, key: str) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"dog/{name}.png", (200, 200))
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'dog'}'\n{key}\n"
    (line,) = scan(read(tmp_path, text)).findings
    message([line], "2 captions", "Latin", "a.png (“")


def test_the_advice_for_captions_of_several_spellings_loses_none(tmp_path: Path) -> None:
    for name in ("a.txt", "b.TXT", "c.TXT"):
        photo(tmp_path / f"set/{name[0]}.png", (200, 200))
        (tmp_path / "set" / name).write_text("x", encoding="utf-8")
    with refused("DATA-005", ".TXT and .txt", 'caption_extension = ".txt"'):
        scan(read(tmp_path, one_folder(tmp_path / "set", "")))
    if os.path.normcase("A") == "A":
        with refused("DATA-005", "2 .TXT files", ".txt"):
            scan(read(tmp_path, one_folder(tmp_path / "set", "caption_extension = '.txt'")))


def test_a_metadata_jsonl_beside_images_without_captions_is_pointed_at(tmp_path: Path) -> None:
    photo(tmp_path / "set/a.png", (200, 200))
    (tmp_path / "set/metadata.jsonl").write_text('{"file_name": "a.png", "text": "x"}\n', encoding="utf-8")
    with refused("DATA-005", f"metadata_file = '{tmp_path / 'set/metadata.jsonl'}'"):
        scan(read(tmp_path, one_folder(tmp_path / "set", "")))
