"""Metadata files: keys in every form, captions and tags joined, and entries without an image and images without an entry reported."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from library.data.batching.buckets import Placement, fill
from library.data.scan.metadata import from_metadata, read_metadata
from library.data.scan.metadata_file import read_metadata_file
from library.data.scan.records import scan
from library.errors import UserError
from library.training.planning.image_source import ImageSource
from tests.data.material import photo, photos, read
from tests.messages import message, refusals, refused


def write(path: Path, table: object) -> Path:
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def test_caption_and_tags_are_joined_and_partnerless_ones_told(tmp_path: Path) -> None:
    images = photos(tmp_path / "img", 3)
    photo(tmp_path / "img/deep/er.jpg")
    table = {
        "00": {"caption": "a dog", "tags": "dog, grass", "train_resolution": [96, 64]},
        "deep\\er": {"tags": "dog"},
        "./01.png": {"caption": "with extension"},
        "gone": {"caption": "x"},
    }
    entries, findings = read_metadata(write(tmp_path / "m.json", table), tmp_path / "img")
    assert [(entry.path, entry.caption, entry.train_resolution) for entry in entries] == [
        (images[0], "a dog, dog, grass", (96, 64)),
        (tmp_path / "img/deep/er.jpg", "dog", None),
        (images[1], "with extension", None),
    ]
    message(findings[:1], "1 of 4 entries", "gone")
    message(findings[1:2], "1 image", "02.png")


def test_without_a_resolution_images_are_trained_as_they_were_prepared(tmp_path: Path) -> None:
    for name, size in (("a", (300, 200)), ("b", (100, 100))):
        photo(tmp_path / f"img/{name}.png", size)
    table = {"a": {"caption": "x", "train_resolution": [96, 64]}, "b": {"caption": "x", "train_resolution": [72, 72]}}
    path = write(tmp_path / "m.json", table)
    filled = fill(scan(from_metadata(tmp_path / "img", path, 1, {})))
    assert filled.placements == (Placement((96, 64), (96, 64)), Placement((72, 72), (72, 72)))
    resized = fill(scan(from_metadata(tmp_path / "img", path, 1, {"resolution": "64"})))
    assert resized.placements == filled.placements and resized.blueprint.datasets[0].options.resolution == (96, 64)
    del table["b"]["train_resolution"]
    mixed = fill(scan(from_metadata(tmp_path / "img", write(path, table), 1, {"resolution": "64"})))
    assert {placement.bucket for placement in mixed.placements} == {(64, 64)}
    message(mixed.findings, "train_resolution", "1 of 2 images (b.png)", "--resolution")
    with refused("DATA-017", "train_resolution", "1 of 2 images", "b.png"):
        scan(from_metadata(tmp_path / "img", path, 1, {}))
    table["b"]["train_resolution"] = [70, 72]
    with refused("DATA-007", path, "entry 'b'", "multiples of 8"):
        scan(from_metadata(tmp_path / "img", write(path, table), 1, {"resolution": "64"}))


@pytest.mark.parametrize("with_extension", [True, False])
def test_full_paths_need_no_image_dir(tmp_path: Path, with_extension: bool) -> None:
    (image,) = photos(tmp_path / "img", 1)
    key = image if with_extension else image.with_suffix("")
    path = write(tmp_path / "m.json", {str(key): {"caption": "a dog"}})
    for folder in (None, tmp_path / "img", tmp_path):
        assert [entry.path for entry in read_metadata(path, folder)[0]] == [image]


def test_dots_in_names_are_no_extensions(tmp_path: Path) -> None:
    photo(tmp_path / "img/v1.5.png")
    assert read_metadata(write(tmp_path / "m.json", {"v1.5": {"caption": "a"}}), tmp_path / "img")[0][0].path.name == "v1.5.png"


@pytest.mark.parametrize(
    ("table", "asked"),
    [
        ({"other/00": {"caption": "a"}}, ("DATA-006", "1 entry")),
        ({}, ("DATA-006", "no entries")),
        ([], ("CFG-003", "list")),
        ({"00": {}}, ("DATA-007", "'00'", '"caption"', '"tags"')),
        ({"00": "a dog"}, ("DATA-007", "'00'", '{"caption"')),
        ({"00": {"caption": "a\ud800"}}, ("DATA-007", "'00'", '"caption"', "surrogate")),
        ({"00": {"tags": "a, " * 40_000}}, ("DATA-007", "'00'", '"tags"', 120_000)),
        ({"00": {"caption": 3}}, ("DATA-007", "'00'", '"caption"', "text")),
        ({"00": {"caption": "a", "train_resolution": [64, 60]}}, ("DATA-007", "'00'", "multiples of 8")),
        ({"00": {"caption": "a", "train_resolution": [64_000, 64]}}, ("DATA-007", "'00'", "32768")),
        ({"00": {"caption": "a", "train_resolution": [1]}}, ("DATA-007", "'00'", '"train_resolution"', "[1]", "[width, height]")),
    ],
)
def test_faulty_metadata_is_told(tmp_path: Path, table: object, asked: tuple[str, ...]) -> None:
    photos(tmp_path / "img", 1)
    with pytest.raises(UserError) as error:
        read_metadata(write(tmp_path / "m.json", table), tmp_path / "img")
    refusals(error.value, (*asked, tmp_path / "m.json"))


def test_metadata_subset_of_a_config_is_scanned(tmp_path: Path) -> None:
    photos(tmp_path / "img", 2)
    meta = write(tmp_path / "m.json", {"01": {"caption": "b"}, "00": {"caption": "a"}})
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'img'}'\nmetadata_file = '{meta}'\n"
    blueprint = read(tmp_path, text)
    assert blueprint.datasets[0].form == "metadata"
    assert [(record.caption, record.key) for record in scan(blueprint).records] == [("a", "0/0/00.png"), ("b", "0/0/01.png")]


def test_old_form_takes_in_json_and_repeats(tmp_path: Path) -> None:
    photos(tmp_path / "img", 1)
    meta = write(tmp_path / "m.json", {"00": {"caption": "a"}})
    blueprint = from_metadata(tmp_path / "img", meta, 4, {"resolution": "64", "caption_extension": ".caption", "keep_tokens": 1})
    assert blueprint.subsets()[0].num_repeats == 4 and blueprint.subsets()[0].keep_tokens == 1 and len(scan(blueprint).records) == 1
    with pytest.raises(UserError) as caught:
        from_metadata(tmp_path / "imx", tmp_path / "n.json", 1, {})
    assert [line.split(":")[0] for line in caught.value.problems] == ["--in_json", "--in_json", "--train_data_dir"]


def test_entries_that_name_one_image_train_it_once(tmp_path: Path) -> None:
    (image, other) = photos(tmp_path / "img", 2)
    table = {"00": {"tags": "first"}, "00.png": {"tags": "second"}, str(image): {"tags": "third"}, "01": {"tags": "a"}}
    entries, (finding,) = read_metadata(write(tmp_path / "m.json", table), tmp_path / "img")
    assert [(entry.path, entry.caption) for entry in entries] == [(image, "first"), (other, "a")]
    message([finding], "2 entries", f"00.png, {image}")


def test_entries_without_words_are_told(tmp_path: Path) -> None:
    photos(tmp_path / "img", 3)
    table = {"00": {"caption": "", "tags": None}, "01": {"tags": " , "}, "02": {"caption": "", "tags": "dog"}}
    entries, (finding,) = read_metadata(write(tmp_path / "m.json", table), tmp_path / "img")
    assert len(entries) == 3
    message([finding], "2 images", "00.png, 01.png")


def test_keys_that_fit_no_image_are_told_with_what_would_help(tmp_path: Path) -> None:
    photo(tmp_path / "img/Park.jpg")
    folder = {"resolution": "64"}
    with refused("DATA-006", tmp_path / "m.json", "'Park'", "upper and lower case"):
        scan(from_metadata(tmp_path / "img", write(tmp_path / "m.json", {"park": {"caption": "x"}}), 1, folder))
    with refused("DATA-006", tmp_path / "m.json", "set --train_data_dir"):
        scan(from_metadata(tmp_path / "img", write(tmp_path / "m.json", {"a/b": {"caption": "x"}}), 1, folder))


def test_what_is_false_does_not_contradict_a_metadata_file(tmp_path: Path) -> None:
    photos(tmp_path / "img", 1)
    file = write(tmp_path / "m.json", {"00": {"caption": "x"}})
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'img'}'\nmetadata_file = '{file}'\n"
    assert len(scan(read(tmp_path, text + "is_reg = false")).records) == 1
    with refused("CFG-010", "is_reg", "metadata_file"):
        read(tmp_path, text + "is_reg = true")


def test_images_that_were_not_prepared_are_named_where_the_sizes_are_to_come_from_the_file(tmp_path: Path) -> None:
    photos(tmp_path / "img", 3)
    table = {name: {"caption": "x", "train_resolution": [64, 64]} for name in ("00", "01")} | {"02": {"caption": "x"}}
    with refused("DATA-017", "train_resolution", "1 of 3 images (02.png)") as error:
        scan(from_metadata(tmp_path / "img", write(tmp_path / "m.json", table), 1, {}))
    assert len(error.value.problems) == 1


CONFIG = """
[[datasets]]
{dataset}
[[datasets.subsets]]
image_dir = '{img}'
metadata_file = '{meta}'
"""


@pytest.mark.parametrize(
    "dataset", ["", "resolution = 64", "resolution = 64\nenable_bucket = true\nmin_bucket_reso = 32\nbucket_reso_steps = 32"]
)
def test_a_config_trains_images_as_they_were_prepared_too(tmp_path: Path, dataset: str) -> None:
    for name, size in (("a", (300, 200)), ("b", (100, 100))):
        photo(tmp_path / f"img/{name}.png", size)
    table = {"a": {"caption": "x", "train_resolution": [96, 64]}, "b": {"caption": "x", "train_resolution": [72, 72]}}
    meta = write(tmp_path / "m.json", table)
    text = CONFIG.format(img=tmp_path / "img", meta=meta, dataset=dataset)
    data = fill(scan(read(tmp_path, text)))
    assert [place.bucket for place in data.placements] == [(96, 64), (72, 72)]
    lines = ImageSource(data).lines(1)
    assert "sizes as prepared" in lines[0]
    message(lines[1:2], "as prepared", "train_resolution", "m.json")


def test_each_subset_goes_by_its_own_metadata(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        photo(tmp_path / f"{name}/{name}.png", (300, 200))
    files = [
        write(tmp_path / f"{name}.json", {name: {"caption": "x"} | ({"train_resolution": size} if size else {})})
        for name, size in (("a", [96, 64]), ("b", None), ("c", [64, 96]))
    ]
    one = "[[datasets.subsets]]\nimage_dir = '{0}'\nmetadata_file = '{1}'\n"
    subsets = "".join(one.format(tmp_path / file.stem, file) for file in files)
    data = fill(scan(read(tmp_path, f"[[datasets]]\nresolution = 64\n{subsets}")))
    assert [place.bucket for place in data.placements] == [(96, 64), (64, 64), (64, 96)]
    assert "64×64, batch size" in ImageSource(data).lines(1)[0]
    with refused("CFG-011", "datasets[0]", "resolution = 512"):
        read(tmp_path, f"[[datasets]]\n{subsets}")


@pytest.mark.parametrize("full_path", [True, False])
def test_keys_fit_whether_names_are_composed_or_not(tmp_path: Path, full_path: bool) -> None:
    """A Mac's file names and a metadata file from elsewhere, and the reverse."""
    images = [photo(tmp_path / "img" / unicodedata.normalize(form, f"강아지{form}.png")) for form in ("NFC", "NFD")]
    keys = [unicodedata.normalize(form, f"강아지{other}") for form, other in (("NFD", "NFC"), ("NFC", "NFD"))]
    table = {(tmp_path / "img" / key).as_posix() if full_path else key: {"caption": key} for key in keys}
    entries, findings = read_metadata(write(tmp_path / "m.json", table), None if full_path else tmp_path / "img")
    assert [entry.path for entry in entries] == images and findings == []


def test_old_form_needs_no_folder_for_full_paths(tmp_path: Path) -> None:
    image = photo(tmp_path / "img/a.jpg")
    file = write(tmp_path / "m.json", {str(image.with_suffix("")): {"caption": "x"}})
    assert [record.path for record in scan(from_metadata(None, file, 1, {"resolution": "64"})).records] == [image]
    with refused("DATA-006", tmp_path / "m.json", "add --train_data_dir"):
        scan(from_metadata(None, write(tmp_path / "m.json", {"a": {"caption": "x"}}), 1, {"resolution": "64"}))


ROWS = '{"file_name": "00.png", "text": "a dog"}\n\n{"file_name": "sub/01.png", "text": "a cat", "extra": 1}\n'


@pytest.mark.parametrize("name", ["metadata.jsonl", "captions.json"])
@pytest.mark.parametrize("rows", [ROWS, "[" + ",".join(ROWS.split("\n\n")) + "]", ROWS.replace("\n", "\r\n")])
def test_rows_of_file_name_and_text_are_captions(tmp_path: Path, rows: str, name: str) -> None:
    images = [photo(tmp_path / "img/00.png"), photo(tmp_path / "img/sub/01.png")]
    (tmp_path / "img" / name).write_text(rows, encoding="utf-8", newline="")
    entries, findings = read_metadata(tmp_path / "img" / name, None if name.endswith("jsonl") else tmp_path / "img")
    assert [(entry.path, entry.caption) for entry in entries] == list(zip(images, ("a dog", "a cat"), strict=True)) and not findings
    assert read_metadata_file(tmp_path / "img" / name, "in_json")["sub/01.png"] == {"caption": "a cat", "extra": 1}


def test_one_row_alone_is_a_row(tmp_path: Path) -> None:
    image = photo(tmp_path / "00.png")
    (tmp_path / "metadata.jsonl").write_text(ROWS.splitlines()[0], encoding="utf-8")
    assert [entry.path for entry in read_metadata(tmp_path / "metadata.jsonl", None)[0]] == [image]


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        (ROWS + '{"text": "x"}', ("DATA-007", "row 3", "file_name")),
        (ROWS + "{broken", ("CFG-002", "line 4", "JSON")),
        (ROWS.replace('"a dog"', "7"), ("DATA-007", "entry '00.png'", '"caption"', "text")),
    ],
)
def test_rows_that_cannot_be_used_are_told_by_number(tmp_path: Path, rows: str, asked: tuple[str, ...]) -> None:
    photo(tmp_path / "00.png")
    (tmp_path / "metadata.jsonl").write_text(rows, encoding="utf-8")
    with refused(*asked, tmp_path / "metadata.jsonl"):
        read_metadata(tmp_path / "metadata.jsonl", None)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ('{"00": {"caption": "first"}, "00": {"caption": "second"}}', "'00'"),
        ('{"00": {"caption": "first", "caption": "second"}}', "'caption'"),
        ('{"file_name": "00.png", "text": "first"}\n{"file_name": "00.png", "text": "second"}\n', "'00.png'"),
    ],
)
def test_what_stands_twice_counts_once_the_first_and_is_told(
    tmp_path: Path, text: str, again: str, caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "img/00.png")
    (tmp_path / "m.json").write_text(text, encoding="utf-8")
    (entry,), (finding,) = read_metadata(tmp_path / "m.json", tmp_path / "img")
    assert entry.caption == "first"
    message([finding], again, "more than once", "first")
    (table,) = read_metadata_file(tmp_path / "m.json", "in_json").values()
    assert table == {"caption": "first"}
