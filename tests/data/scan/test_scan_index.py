"""The index next to the images: a second scan reads no unchanged file, sees every changed one, and needs no index."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from library.data.batching.buckets import fill
from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, DatasetSpec, SubsetOptions
from library.data.scan import records, scan_index
from library.data.scan.caption_files import CaptionFile
from library.data.scan.records import ImageRecord, Scan, scan
from library.data.scan.scan_index import FEWEST, NAME
from tests.data.material import photo
from tests.listening import Heard
from tests.messages import refused

OLD = time.time_ns() - 3600 * 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """So many images with captions that they get an index, all of an hour ago."""
    one = photo(tmp_path / "one.png", (96, 64)).read_bytes()
    for n in range(FEWEST // 2):
        (tmp_path / "dog").mkdir(exist_ok=True)
        (tmp_path / f"dog/{n:03}.png").write_bytes(one)
        (tmp_path / f"dog/{n:03}.txt").write_text(f"dog number {n}", encoding="utf-8")
    for file in (tmp_path / "dog").iterdir():
        os.utime(file, ns=(OLD, OLD))
    return tmp_path / "dog"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of images and captions that were read, in order."""
    names: list[str] = []
    for reader in ("read_header", "read_caption"):
        real = getattr(records, reader)
        monkeypatch.setattr(records, reader, lambda path, real=real: (names.append(path.name), real(path))[1])
    yield names


def blueprint(folder: Path) -> DatasetBlueprint:
    subset = SubsetOptions(image_dir=folder, caption_extension=".txt", class_tokens="dog", place="x")
    return DatasetBlueprint((DatasetSpec(DatasetOptions((64, 64)), (subset,)),))


def test_second_scan_reads_nothing_and_finds_the_same(folder: Path, opened: list[str]) -> None:
    first = scan(blueprint(folder))
    assert len(opened) == FEWEST and (folder / NAME).is_file()
    opened.clear()
    again = scan(blueprint(folder))
    assert opened == []
    assert [(one.path, one.size, one.caption, one.key) for one in again.records] == [
        (one.path, one.size, one.caption, one.key) for one in first.records
    ]
    assert again.findings == first.findings


def test_changed_image_and_caption_are_read_and_no_other(folder: Path, opened: list[str]) -> None:
    scan(blueprint(folder))
    photo(folder / "003.png", (64, 96))
    (folder / "004.txt").write_text("a cat", encoding="utf-8")
    same_length = folder / "005.txt"
    same_length.write_text("cat" + same_length.read_text(encoding="utf-8")[3:], encoding="utf-8")
    (folder / "006.txt").unlink()
    opened.clear()
    records = {one.path.name: one for one in scan(blueprint(folder)).records}
    assert sorted(opened) == ["003.png", "004.txt", "005.txt"]
    assert records["003.png"].size == (64, 96) and records["004.png"].caption == "a cat" and records["006.png"].caption == "dog"
    assert records["005.png"].caption == "cat number 5"


def test_file_changed_just_before_the_scan_is_not_trusted_later(folder: Path, opened: list[str]) -> None:
    """It might be written once more within the clock tick of its file system, and its stamp stay the same."""
    (folder / "004.txt").write_text("a cat", encoding="utf-8")
    scan(blueprint(folder))
    opened.clear()
    scan(blueprint(folder))
    assert opened == ["004.txt"]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff\xfe\x00garbage",
        b'{"version": 1, "Header": ',
        b"[]",
        b'{"version": 99, "Header": {}}',
        b'{"version": 1, "Header": [1, 2]}',
    ],
)
def test_damaged_index_is_as_none(folder: Path, opened: list[str], damage: bytes) -> None:
    first = scan(blueprint(folder))
    (folder / NAME).write_bytes(damage)
    opened.clear()
    assert scan(blueprint(folder)).records == first.records and len(opened) == FEWEST
    assert json.loads((folder / NAME).read_text(encoding="utf-8"))["Header"]  # and is created again


def test_entries_that_make_no_sense_are_read_from_the_files(folder: Path, opened: list[str]) -> None:
    first = scan(blueprint(folder))
    tree = json.loads((folder / NAME).read_text(encoding="utf-8"))
    stamp = tree["Header"]["000.png"][:2]
    wrong = [[*stamp, "96x64"], [*stamp, [0, 64], "PNG", "RGB", 1, 1], [*stamp, [96], "PNG", "RGB", 1, 1], "text", [], [None, None, None]]
    for n, entry in enumerate(wrong):
        tree["Header"][f"{n:03}.png"] = entry
    tree["CaptionFile"]["000.txt"] = [*tree["CaptionFile"]["000.txt"][:2], 7, "no"]
    (folder / NAME).write_text(json.dumps(tree), encoding="utf-8")
    os.utime(folder / NAME, ns=(OLD, OLD))
    opened.clear()
    assert scan(blueprint(folder)).records == first.records
    assert sorted(opened) == sorted([f"{n:03}.png" for n in range(len(wrong))] + ["000.txt"])


def test_facts_are_found_by_folder_and_name_as_by_path(folder: Path, opened: list[str]) -> None:
    scan(blueprint(folder))
    index = scan_index.ScanIndex()
    path = folder / "003.txt"
    by_name = index.fact_in(folder, "003.txt", CaptionFile, lambda path: pytest.fail(f"{path} is known"))
    assert by_name == index.known(path, CaptionFile) == CaptionFile("dog number 3")
    assert index.length(path) == path.stat().st_size
    assert index.fact_in(folder, "new.txt", CaptionFile, lambda path: CaptionFile(str(path))).text == str(folder / "new.txt")
    assert index.known(folder / "new.txt", CaptionFile) is None  # nothing of a missing file is stored
    index.remember(path, CaptionFile("a cat"))
    assert index.known(path, CaptionFile) == CaptionFile("a cat")


def test_folder_that_cannot_be_written_goes_without_an_index_and_without_a_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(scan_index, "atomic_write", refuse)
    assert len(scan(blueprint(folder)).records) == FEWEST // 2
    assert not (folder / NAME).exists() and not heard.lines


def test_small_folder_gets_no_index(tmp_path: Path) -> None:
    photo(tmp_path / "dog/a.png")
    os.utime(tmp_path / "dog/a.png", ns=(OLD, OLD))
    scan(blueprint(tmp_path / "dog"))
    assert [one.name for one in (tmp_path / "dog").iterdir()] == ["a.png"]


def test_unreadable_image_is_told_at_every_start(folder: Path) -> None:
    (folder / "007.png").write_bytes(b"no image")
    os.utime(folder / "007.png", ns=(OLD, OLD))
    for _ in range(2):
        with refused("DATA-001", folder / "007.png"):
            scan(blueprint(folder))


def bytes_an_image(name: str, count: int = 3000) -> float:
    """Memory that the records and buckets of `count` images take, whose files' names begin with `name`."""
    subset = SubsetOptions(image_dir=Path("/home/me/photos/my dog"), num_repeats=1, place="x")
    plan = DatasetBlueprint((DatasetSpec(DatasetOptions((512, 512), 4, True), (subset,)),))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    images = tuple(
        ImageRecord(
            subset.image_dir, f"{name}_{n:06}.jpg", (1000 + n % 37, 800), f"{n} " + "dog, grass, " * 7, subset, 0, f"0/0/{name}_{n:06}.jpg"
        )
        for n in range(count)
    )
    filled = fill(Scan(plan, images, ()))
    each = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    assert len(filled.records) == count
    return each


def test_an_image_takes_under_700_bytes() -> None:
    # pathlib interns names, and Python's table of those doubles at some moment that what ran before decides: at most once in two
    each = min(bytes_an_image("image"), bytes_an_image("photo"))
    assert each < 700, f"{each:.0f} bytes"


def test_a_file_of_another_length_is_read_anew_even_with_the_old_time(folder: Path, opened: list[str]) -> None:
    scan(blueprint(folder))
    caption = folder / "005.txt"
    before = caption.stat()
    caption.write_text("a cat and a dog and a bird", encoding="utf-8")
    os.utime(caption, ns=(before.st_atime_ns, before.st_mtime_ns))
    opened.clear()
    assert "a cat and a dog and a bird" in {record.caption for record in scan(blueprint(folder)).records}
    assert opened == ["005.txt"]
