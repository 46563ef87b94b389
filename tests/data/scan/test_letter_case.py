"""File systems that ignore letter case: a file is found in either case, and files that would be one there are not taken for two."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from library.data.config.blueprint import SubsetOptions
from library.data.pixels.latent_plan import Folders
from library.data.scan.metadata import read_metadata
from library.data.scan.metadata_file import Keys
from library.preparation.shrink import _files_beside
from tests.data.material import photos
from tests.messages import refused


@pytest.fixture
def no_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names compare as on Windows, where `normcase` also turns slashes round."""
    monkeypatch.setattr(os.path, "normcase", lambda path: os.fspath(path).lower().replace("/", "\\"))


def named(folder: Path, *names: str) -> list[Path]:
    """Images of these names."""
    for image, name in zip(photos(folder, len(names)), names, strict=True):
        shutil.move(image, folder / name)
    return [folder / name for name in names]


@pytest.mark.parametrize("text", ["img_1.TXT", "IMG_1.txt", "Img_1.Txt"])
def test_a_caption_file_of_another_case_is_the_images(tmp_path: Path, no_case: None, text: str) -> None:
    from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, DatasetSpec
    from library.data.scan.records import scan

    named(tmp_path, "IMG_1.PNG")
    (tmp_path / text).write_text("a cat", encoding="utf-8")
    subset = SubsetOptions(image_dir=tmp_path, caption_extension=".txt", class_tokens="wrong")
    (record,) = scan(DatasetBlueprint((DatasetSpec(DatasetOptions((64, 64), 1), (subset,)),))).records
    assert record.caption == "a cat"


def test_images_of_which_latents_would_be_one_file_are_not_alone(tmp_path: Path, no_case: None) -> None:
    first, other, alone = named(tmp_path, "A.png", "a.jpg", "b.png")
    stems = Folders().of(first).stems
    assert [stems[os.path.normcase(image.stem)] for image in (first, other, alone)] == [2, 2, 1]


def test_keys_of_metadata_name_images_in_any_case(tmp_path: Path, no_case: None) -> None:
    (image,) = named(tmp_path / "Sub", "Cat.PNG")
    metadata = tmp_path / "meta.json"
    for key in ("sub\\cat", "SUB/CAT.png", str(image).upper()):
        metadata.write_text(json.dumps({key: {"caption": "a"}}), encoding="utf-8")
        entries, findings = read_metadata(metadata, tmp_path)
        assert [entry.path for entry in entries] == [image] and not findings
        full = key == str(image).upper()
        assert Keys(tmp_path, [image], {key: {}}, full_path=full).of(image) == key
    metadata.write_text(json.dumps({str(image.parent / "cat"): {"caption": "a"}}), encoding="utf-8")
    assert [entry.path for entry in read_metadata(metadata, None)[0]] == [image]


def test_files_of_another_case_go_with_a_smaller_copy(tmp_path: Path, no_case: None) -> None:
    (image,) = named(tmp_path, "Cat.PNG")
    (tmp_path / "cat.txt").write_text("a", encoding="utf-8")
    assert _files_beside([image])[os.path.normcase("Cat")] == [tmp_path / "cat.txt"]


@pytest.mark.skipif(os.name == "nt", reason="such paths are native on Windows")
def test_full_paths_of_a_windows_machine_are_told_as_such(tmp_path: Path) -> None:
    named(tmp_path, "cat.png")
    (tmp_path / "meta.json").write_text(json.dumps({"C:\\pictures\\cat": {"caption": "a"}}), encoding="utf-8")
    for folder in (tmp_path, None):
        with refused("DATA-006", tmp_path / "meta.json", "Windows"):
            read_metadata(tmp_path / "meta.json", folder)
