"""Scanning captions: read by the rules, and what is odd about them told with the files."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from library.data.scan.records import scan
from tests.data.material import photo, photos, read
from tests.data.scan.scanning import faults, one_folder, scanned, write
from tests.messages import message, refusal, refusals, refused


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
