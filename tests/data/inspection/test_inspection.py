"""What the report finds in folders, captions and images beyond the 25 errors of tests/scripts/dry_run/test_report.py."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.data.batching.buckets import Placement, fill
from library.data.inspection.bucket_facts import bucket_facts, bucket_findings, cut, enlargement
from library.data.inspection.inspection import inspect
from library.data.scan.findings import Finding
from library.data.scan.records import ImageRecord, Scan, survey
from library.data.scan.scan_index import ScanIndex
from library.files import sha256
from tests.data.material import photo, photos, read
from tests.messages import message
from tests.scripts.faulty_dataset import picture


def findings(folder: Path, subset: str = "class_tokens = 'dog'", dataset: str = "resolution = 64") -> list[Finding]:
    text = f"[[datasets]]\n{dataset}\n[[datasets.subsets]]\nimage_dir = '{folder / 'dog'}'\n{subset}\n"
    index = ScanIndex()
    return list(inspect(survey(read(folder, text), index), index))


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    (tmp_path / "dog").mkdir()
    for n in range(3):
        picture(n, (160, 160)).save(tmp_path / f"dog/{n}.png")
    return tmp_path / "dog"


def test_folder_with_nothing_wrong_gives_no_finding(dog: Path) -> None:
    assert findings(dog.parent) == []


def test_name_of_another_format_is_fine_and_noted(dog: Path) -> None:
    picture(9).save(dog / "x.png", format="JPEG")
    (finding,) = findings(dog.parent)
    assert finding.level == "note"
    message([finding.text], "1 image", "format", "x.png")


def test_animation_and_printing_colours_are_told(dog: Path) -> None:
    picture(7).save(dog / "moving.webp", save_all=True, append_images=[picture(8)], lossless=True)
    picture(9).convert("CMYK").save(dog / "print.jpg")
    first, second = findings(dog.parent)
    assert (first.level, second.level) == ("warning", "note")
    message([first.text], "1 image", "frames", "moving.webp")
    message([second.text], "(CMYK)", "print.jpg")


def test_images_of_one_name_share_a_caption(dog: Path) -> None:
    picture(9).save(dog / "0.jpg")
    (dog / "0.caption").write_text("a dog", encoding="utf-8")
    (finding,) = findings(dog.parent)
    message([finding.text], "1 caption file", "same name", "0.caption")
    for name in ("1", "2"):
        (dog / f"{name}.caption").write_text("a dog", encoding="utf-8")
    message([findings(dog.parent)[1].text], "class_tokens 'dog'", "not used")


@pytest.mark.parametrize(("text", "keep", "reported"), [("a dog", 0, True), ("a dog, grass", 2, True), ("a dog, grass", 1, False)])
def test_shuffling_that_can_do_nothing_is_told(dog: Path, text: str, keep: int, reported: bool) -> None:
    for n in range(3):
        (dog / f"{n}.caption").write_text(text, encoding="utf-8")
    lines = [finding.text for finding in findings(dog.parent, f"shuffle_caption = true\nkeep_tokens = {keep}")]
    assert [line for line in lines if "shuffle_caption" in line] == lines and bool(lines) == reported


def test_image_of_two_datasets_is_no_copy_of_itself(dog: Path) -> None:
    again = f"[[datasets]]\nresolution = 128\n[[datasets.subsets]]\nimage_dir = '{dog}'\nclass_tokens = 'dog'\n"
    assert findings(dog.parent, "class_tokens = 'dog'\n" + again) == []


def test_looks_are_kept_in_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "dog", 50)
    for file in (tmp_path / "dog").iterdir():
        os.utime(file, (1_000_000, 1_000_000))
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'dog'}'\nclass_tokens = 'x'\n"
    first = ScanIndex()
    expected = list(inspect(survey(read(tmp_path, text), first), first))
    first.save()
    monkeypatch.setattr("library.data.inspection.inspection.look_at", lambda path: pytest.fail(f"{path} was decoded again"))
    again = ScanIndex()
    assert list(inspect(survey(read(tmp_path, text), again), again)) == expected


def test_files_that_look_alike_are_read_once_and_again_when_they_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "dog", 50)
    same = min((tmp_path / "dog").iterdir()).read_bytes()
    for name in ("x.png", "y.png", "z.png"):
        (tmp_path / "dog" / name).write_bytes(same)
    for file in (tmp_path / "dog").iterdir():
        os.utime(file, (1_000_000, 1_000_000))
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'dog'}'\nclass_tokens = 'x'\n"
    read_files: list[str] = []
    plain = sha256
    monkeypatch.setattr("library.data.inspection.inspection.sha256", lambda path: (read_files.append(path.name), plain(path))[1])

    def copies() -> str:
        index = ScanIndex()
        findings = list(inspect(survey(read(tmp_path, text), index), index))
        index.save()
        return "".join(finding.text for finding in findings if "identical" in finding.text)

    first = copies()
    message(first, "4 images", "1 group")
    assert len(read_files) == 4
    read_files.clear()
    assert copies() == first and read_files == []
    with Image.open(tmp_path / "dog/y.png") as image:
        turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned.save(tmp_path / "dog/y.png")
    os.utime(tmp_path / "dog/y.png", (2_000_000, 2_000_000))
    (tmp_path / "dog/z.png").write_bytes(same)  # now: its time is too young to be trusted
    message(copies(), "3 images", "1 group")
    assert read_files == ["z.png"]
    read_files.clear()
    assert "3 images" in copies() and read_files == ["z.png"]


def test_shares_of_buckets_by_hand(tmp_path: Path) -> None:
    """Resolution 64 without buckets: 128×64 loses half, 32×32 is doubled, 64×64 stays."""
    photo(tmp_path / "dog/a.png", (128, 64))
    photo(tmp_path / "dog/b.png", (32, 32), seed=1)
    photo(tmp_path / "dog/c.png", (64, 64), seed=2)
    text = f"[[datasets]]\nresolution = 64\nbatch_size = 8\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'dog'}'\nclass_tokens = 'x'\n"
    filled = fill(survey(read(tmp_path, text), ScanIndex()).checked())
    (facts,) = bucket_facts(filled)
    assert (facts.images, facts.shown, facts.batches, facts.enlarged, facts.cropped) == (3, 3, 1, 1, 1)
    assert facts.mean_cut == pytest.approx(0.5 / 3) and facts.worst == ((0, 0.5),)
    small, cropped, *_, last = bucket_findings(filled, [facts])
    message([small.text], "1 image", "under 128 px", "b.png (32×32)")  # and not those that stay as they are
    message([cropped.text], "1 image", "25%", "a.png (50%)")
    assert "enable_bucket" in cropped.remedy
    message([last.text], "batches", "64×64 (3 images")


def test_a_pixel_of_rounding_is_no_enlargement() -> None:
    def times(size: tuple[int, int], resized: tuple[int, int]) -> float:
        return enlargement(ImageRecord(Path(), "x", size, "", None, 0, ""), Placement((64, 64), resized))  # type: ignore[arg-type]

    assert times((100, 64), (101, 64)) == 1 and times((50, 32), (100, 64)) == 2 and times((200, 128), (100, 64)) == 0.5
    assert cut(Placement((64, 64), (80, 64))) == pytest.approx(0.2)


def test_much_enlarged_images_are_told(tmp_path: Path) -> None:
    photo(tmp_path / "dog/a.png", (200, 200))
    text = f"[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'dog'}'\nclass_tokens = 'x'\n"
    filled = fill(Scan(read(tmp_path, text), survey(read(tmp_path, text), ScanIndex()).records, ()))
    (finding,) = bucket_findings(filled, bucket_facts(filled))
    message([finding.text], "1 image", "1.5 times", "a.png (2.6×)")


def test_hidden_images_are_told_and_their_captions_are_not(dog: Path) -> None:
    picture(8, (160, 160)).save(dog / ".old.png")
    (dog / "._0.png").write_bytes(b"a Mac's note")
    (dog / "._0.caption").write_bytes(b"a Mac's note")
    (finding,) = findings(dog.parent)
    assert finding.level == "note"
    message([finding.text], "2 hidden images", "._0.png, .old.png")


@pytest.mark.parametrize(("resolution", "reported"), [(512, True), (64, False)])
def test_small_images_are_told_of_once_and_only_where_they_are_enlarged(tmp_path: Path, resolution: int, reported: bool) -> None:
    photos(tmp_path / "dog", 4, (100, 100))
    dataset = f"[[datasets]]\nresolution = {resolution}\nbatch_size = 8\n"
    text = f"{dataset}[[datasets.subsets]]\nimage_dir = '{tmp_path / 'dog'}'\nclass_tokens = 'x'\n"
    scan = survey(read(tmp_path, text), ScanIndex()).checked()
    assert scan.findings == ()
    lines = [str(one) for one in bucket_findings(fill(scan), bucket_facts(fill(scan)))]
    assert len(lines) == reported
    for line in lines:
        message([line], "4 images", "under 128 px", "(100×100)")


def test_flat_images_are_told_as_such_and_not_as_copies_of_each_other(dog: Path) -> None:
    for name in ("a.png", "b.bmp"):
        Image.new("RGB", (160, 160), (200, 0, 0)).save(dog / name)
    faint = np.full((160, 160, 3), 100, np.uint8)
    faint[:80] = 112  # little to see, but something
    Image.fromarray(faint).save(dog / "c.png")
    (finding,) = findings(dog.parent)
    message([finding.text], "2 images", "single colour", "a.png, b.bmp")


def test_any_transparency_is_told(dog: Path) -> None:
    pixels = np.dstack([np.asarray(picture(9, (160, 160))), np.full((160, 160), 250, np.uint8)])
    Image.fromarray(pixels).save(dog / "a.png")
    (finding,) = findings(dog.parent)
    message([finding.text], "1 image", "transparent")
