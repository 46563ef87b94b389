"""Captions and tags become a metadata file that the well-known tools and this suite's fine_tune.py read."""

import json
import os
import time
from pathlib import Path

import pytest

from finetune import merge_captions_to_metadata, merge_dd_tags_to_metadata
from library.data.scan.metadata import read_metadata
from tests.data.material import photo
from tests.messages import message, refusal, refusals
from tests.scripts.running import run_in_process


def captions(*argv: object) -> int:
    return run_in_process(merge_captions_to_metadata.main, *argv)


def tags(*argv: object) -> int:
    return run_in_process(merge_dd_tags_to_metadata.main, *argv)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with captions and tags, one inside a separate folder, one with neither."""
    for name in ("a.png", "b.JPG", "deep/c.png", "bare.png"):
        photo(tmp_path / "images" / name, size=(16, 16))
    for name, text in {"a": "a cat\n", "b": "\ufeffein Hündchen", "deep/c": " two lines\nof text\n"}.items():
        (tmp_path / "images" / f"{name}.caption").write_text(text, encoding="utf-8")
        (tmp_path / "images" / f"{name}.txt").write_text(f"{name[-1]}_tag, 1girl\n", encoding="utf-8")
    return tmp_path / "images"


def test_captions_stand_under_the_names_without_ending(folder: Path, tmp_path: Path, capsys) -> None:
    assert captions(folder, tmp_path / "meta.json") == 0
    assert read(tmp_path / "meta.json") == {"a": {"caption": "a cat"}, "b": {"caption": "ein Hündchen"}}
    message(capsys.readouterr().err, "1 of 3 images", ".caption", "bare.png", "skipped")


def test_recursive_takes_the_folders_inside_and_the_reader_finds_them(folder: Path, tmp_path: Path) -> None:
    assert captions(folder, tmp_path / "meta.json", "--recursive") == 0
    assert read(tmp_path / "meta.json")["deep/c"] == {"caption": "two lines of text"}
    entries, _ = read_metadata(tmp_path / "meta.json", folder)
    assert {entry.path for entry in entries} == {folder / "a.png", folder / "b.JPG", folder / "deep" / "c.png"}


def test_full_path_names_the_whole_path_with_ending_also_for_a_relative_folder(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert captions("images", "meta.json", "--full_path") == 0
    assert list(read(tmp_path / "meta.json")) == [str(folder / "a.png"), str(folder / "b.JPG")]
    entries, _ = read_metadata(tmp_path / "meta.json", None)
    assert [entry.caption for entry in entries] == ["a cat", "ein Hündchen"]


def test_tags_join_the_captions_and_what_is_not_known_stays(folder: Path, tmp_path: Path) -> None:
    before = {"a": {"caption": "old", "train_resolution": [64, 64], "mine": 1}, "gone": {"tags": "x"}}
    (tmp_path / "in.json").write_text(json.dumps(before), encoding="utf-8")
    assert tags(folder, tmp_path / "out.json", "--in_json", tmp_path / "in.json") == 0
    assert read(tmp_path / "out.json") == {
        "a": {"caption": "old", "train_resolution": [64, 64], "mine": 1, "tags": "a_tag, 1girl"},
        "gone": {"tags": "x"},
        "b": {"tags": "b_tag, 1girl"},
    }
    assert read(tmp_path / "in.json") == before


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        ([], {"a": "a_tag, 1girl", "b": "b_tag, 1girl"}),
        (["--recursive"], {"a": "a_tag, 1girl", "b": "b_tag, 1girl", "deep/c": "c_tag, 1girl"}),
        (["--caption_extension", ".caption"], {"a": "a cat", "b": "ein Hündchen"}),
        (["--full_path"], {"{folder}/a.png": "a_tag, 1girl", "{folder}/b.JPG": "b_tag, 1girl"}),
        (["--debug"], {"a": "a_tag, 1girl", "b": "b_tag, 1girl"}),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_tags_are_taken_from_where_and_named_as_the_options_say(folder: Path, tmp_path: Path, flags: list, written: dict, capsys) -> None:
    assert tags(folder, tmp_path / "meta.json", *flags) == 0
    named = {str(Path(key.format(folder=folder))) if "{" in key else key: text for key, text in written.items()}
    assert read(tmp_path / "meta.json") == {key: {"tags": text} for key, text in named.items()}
    assert capsys.readouterr().out == ("a: a_tag, 1girl\nb: b_tag, 1girl\n" if "--debug" in flags else "")


def test_without_in_json_the_target_is_read_and_updated(folder: Path, tmp_path: Path) -> None:
    assert captions(folder, tmp_path / "meta.json") == tags(folder, tmp_path / "meta.json") == 0
    assert read(tmp_path / "meta.json")["a"] == {"caption": "a cat", "tags": "a_tag, 1girl"}


def test_a_given_in_json_is_read_instead_of_the_target(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text('{"stays": {"caption": "no"}}', encoding="utf-8")
    (tmp_path / "in.json").write_text('{"x": {"caption": "yes"}}', encoding="utf-8")
    assert captions(folder, tmp_path / "out.json", "--in_json", tmp_path / "in.json") == 0
    assert list(read(tmp_path / "out.json")) == ["x", "a", "b"]


@pytest.mark.parametrize("flag", ["--caption_extension", "--caption_extention"])
def test_another_extension_is_read(folder: Path, tmp_path: Path, flag: str) -> None:
    assert captions(folder, tmp_path / "meta.json", flag, ".txt") == 0
    assert read(tmp_path / "meta.json")["a"] == {"caption": "a_tag, 1girl"}


def test_debug_prints_each_image_with_its_text(folder: Path, tmp_path: Path, capsys) -> None:
    captions(folder, tmp_path / "meta.json")
    assert capsys.readouterr().out == ""
    captions(folder, tmp_path / "meta.json", "--debug")
    assert capsys.readouterr().out == "a: a cat\nb: ein Hündchen\n"


def test_two_folders_go_into_one_file_with_full_path(folder: Path, tmp_path: Path) -> None:
    photo(tmp_path / "more" / "a.png", size=(16, 16))
    (tmp_path / "more" / "a.caption").write_text("another a", encoding="utf-8")
    assert captions("--full_path", folder, tmp_path / "1.json") == 0
    assert captions("--full_path", "--in_json", tmp_path / "1.json", tmp_path / "more", tmp_path / "2.json") == 0
    assert {key: entry["caption"] for key, entry in read(tmp_path / "2.json").items()} == {
        str(folder / "a.png"): "a cat",
        str(folder / "b.JPG"): "ein Hündchen",
        str(tmp_path / "more" / "a.png"): "another a",
    }


@pytest.mark.parametrize(
    ("key", "full_path"),
    [
        ("a", False),
        ("a.png", False),
        (".\\a", False),
        ("images/a.png", True),
        ("images\\a.png", True),
        ("{whole}", True),
        ("{whole}", False),
    ],
)
def test_an_image_keeps_the_key_that_it_has_however_it_is_written(folder: Path, key: str, full_path: bool, monkeypatch) -> None:
    monkeypatch.chdir(folder.parent)
    key = key.replace("{whole}", str(folder / "a.png"))
    Path("meta.json").write_text(json.dumps({key: {"tags": "mine"}}), encoding="utf-8")
    assert captions("images", "meta.json", *(["--full_path"] if full_path else [])) == 0
    assert read(Path("meta.json"))[key] == {"tags": "mine", "caption": "a cat"}
    assert len(read(Path("meta.json"))) == 2  # and b


def test_images_that_differ_in_their_ending_only_get_entries_of_their_own(folder: Path, tmp_path: Path, capsys) -> None:
    photo(folder / "a.jpg", size=(16, 16))
    assert captions(folder, tmp_path / "meta.json") == 0
    assert list(read(tmp_path / "meta.json")) == ["a.jpg", "a.png", "b"]
    message(capsys.readouterr().err, "2 images", ".caption", "a.jpg, a.png")
    entries, _ = read_metadata(tmp_path / "meta.json", folder)
    assert len({entry.path for entry in entries}) == 3


@pytest.mark.parametrize(("old", "flag", "words"), [("/x/a.png", [], "add --full_path"), ("x", ["--full_path"], "create separate entries")])
def test_keys_of_the_other_kind_are_told(folder: Path, tmp_path: Path, old: str, flag: list, words: str, capsys) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({old: {"tags": "t"}}), encoding="utf-8")
    assert captions(folder, tmp_path / "meta.json", *flag) == 0
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("data", "words"), [(b"caf\xe9", "byte 3"), (b"a\0b", "NUL"), ("\ufeffx".encode("utf-16-le"), "UTF-16")])
def test_a_caption_in_another_encoding_is_told_and_the_rest_is_done(folder: Path, tmp_path: Path, data: bytes, words: str, capsys) -> None:
    (folder / "a.caption").write_bytes(data)
    (tmp_path / "meta.json").write_text('{"a": {"caption": "kept"}}', encoding="utf-8")
    assert captions(folder, tmp_path / "meta.json") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(errors, ("DATA-004", folder / "a.caption", words, "encoding UTF-8"), ("TOOL-001", "1 image"))
    assert read(tmp_path / "meta.json") == {"a": {"caption": "kept"}, "b": {"caption": "ein Hündchen"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": {"caption": "x"}, "b": {"cap', "truncated"),
        ('{"a": "x"}', "entry 'a': expected"),
        ("[1]", "found a list"),
        ('{"a": {}},', "is not JSON"),
        ("", "truncated"),
    ],
)
def test_broken_metadata_is_told_in_one_line_and_left_alone(folder: Path, tmp_path: Path, text: str, words: str, capsys) -> None:
    (tmp_path / "meta.json").write_text(text, encoding="utf-8")
    assert captions(folder, tmp_path / "meta.json") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert str(tmp_path / "meta.json") in line and words in line
    assert (tmp_path / "meta.json").read_text(encoding="utf-8") == text


def test_nothing_to_merge_is_an_error_that_names_what_lies_there(folder: Path, tmp_path: Path, capsys) -> None:
    for path in folder.glob("*.caption"):
        path.unlink()
    assert captions(folder, tmp_path / "meta.json") == 2
    refusal(capsys.readouterr().err, "TOOL-002", "3 of 3 images", ".caption", "2 .txt files", "--caption_extension .txt")
    assert not (tmp_path / "meta.json").exists()


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["{none}", "{out}"], ("PATH-001", "train_data_dir: {none}")),
        (["{folder}/deep/..", "{folder}"], ("PATH-002", "out_json: {folder}")),
        (["{folder}", "{out}", "--in_json", "{none}.json"], ("PATH-001", "--in_json: {none}.json")),
        (["{folder}", "{out}", "--caption_extension", "txt"], ("OPT-006", "--caption_extension", "'txt'", "write .txt")),
        (["{folder}", "{out}", "--caption_extension", ".png"], ("OPT-006", "--caption_extension", ".png")),
        (["{empty}", "{out}"], ("DATA-003", "{empty}", "--recursive")),
    ],
)
def test_wrong_input_is_one_line(folder: Path, tmp_path: Path, argv: list[str], asked: tuple[str, ...], capsys) -> None:
    photo(tmp_path / "empty" / "inside" / "a.png", size=(8, 8))
    places = {"folder": folder, "out": tmp_path / "meta.json", "none": tmp_path / "none", "empty": tmp_path / "empty"}
    assert captions(*(word.format(**places) for word in argv)) == 2
    refusals(capsys.readouterr().err, tuple(name.format(**places) for name in asked))
    assert not (tmp_path / "meta.json").exists()


def test_a_disk_that_is_full_leaves_the_old_file(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "meta.json").write_text('{"a": {"tags": "t"}}', encoding="utf-8")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert captions(folder, tmp_path / "meta.json") == 2
    refusal(capsys.readouterr().err.splitlines()[-1:], "DISK-004", "out_json", tmp_path / "meta.json", "No space left on device")
    assert read(tmp_path / "meta.json") == {"a": {"tags": "t"}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "meta.json"]


def test_a_file_name_that_is_not_unicode_comes_through(folder: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    try:
        (folder / "a.png").rename(folder / f"{name}.png")
    except OSError:
        pytest.skip("the file system takes Unicode only")
    (folder / "a.caption").rename(folder / f"{name}.caption")
    assert captions(folder, tmp_path / "meta.json", "--debug") == 0
    assert read(tmp_path / "meta.json")[name] == {"caption": "a cat"}


def many_captions(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}.jpg").touch()
        (folder / f"{number:05}.caption").write_bytes(b"a photograph of something in the sun")
    return folder


@pytest.mark.slow  # it measures time
def test_ten_thousand_captions_merge_in_seconds(tmp_path: Path) -> None:
    folder = many_captions(tmp_path / "images", 10_000)
    start = time.perf_counter()
    assert captions(folder, tmp_path / "meta.json", "--full_path") == 0
    took = time.perf_counter() - start
    assert len(read(tmp_path / "meta.json")) == 10_000
    assert took < 10, took


def test_a_folder_is_not_listed_for_each_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = []
    for name in ("scandir", "listdir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *path, real=real: listings.append(path) or real(*path))
    counts = []
    for count in (2, 5, 50):  # the first also looks for what a killed command left next to meta.json
        folder = many_captions(tmp_path / str(count), count)
        listings.clear()
        assert captions(folder, tmp_path / "meta.json", "--full_path") == 0
        counts.append(len(listings))
    assert counts[1] == counts[2] > 0


@pytest.mark.parametrize("length", [238, 247, 251])
def test_images_with_the_longest_names_are_merged(tmp_path: Path, length: int) -> None:
    name = "n" * length
    photo(tmp_path / "img" / f"{name}.png")
    photo(tmp_path / "img" / "short.png")
    (tmp_path / "img" / "short.caption").write_text("short", encoding="utf-8")
    if length < 248:
        (tmp_path / "img" / f"{name}.caption").write_text("long", encoding="utf-8")
    assert captions(tmp_path / "img", tmp_path / f"{'m' * 245}.json") == 0
    assert read(tmp_path / f"{'m' * 245}.json") == {"short": {"caption": "short"}} | ({name: {"caption": "long"}} if length < 248 else {})


def test_a_file_that_is_too_large_for_a_caption_is_not_read(folder: Path, tmp_path: Path, capsys) -> None:
    with (folder / "a.caption").open("r+b") as file:
        file.truncate((1 << 26) + 1)  # takes no space
    assert captions(folder, tmp_path / "meta.json") == 1
    refusal(capsys.readouterr().err, "DATA-004", folder / "a.caption", "64 MiB")


def test_an_entry_that_is_null_is_told_as_json_writes_it(folder: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "meta.json").write_text('{"a": null}', encoding="utf-8")
    assert captions(folder, tmp_path / "meta.json") == 2
    refusal(capsys.readouterr().err, "DATA-007", "entry 'a'", "found null")
