"""Datasets whose folders contain what cannot or may not be opened: reported in one line, or skipped and counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from library.data.config.blueprint import DREAMBOOTH, METADATA, DatasetBlueprint
from library.data.config.build import read_config
from library.data.config.folders import from_folders
from library.data.config.keys import KEYS
from library.data.scan.mask_files import with_masks
from library.data.scan.records import Scan, scan
from library.errors import Problem, UserError
from tests.messages import message, refusal, refusals
from tests.paths.wrong_places import CODES, PARTS, another_user, in_time, made

FORMS = frozenset({DREAMBOOTH, METADATA})
posix = pytest.mark.skipif(os.name == "nt", reason="pipes have no names in folders there")


@pytest.fixture(autouse=True)
def rings() -> Iterator[None]:
    with in_time():
        yield


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    with made() as folders:
        yield folders


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two images and their captions."""
    folder = tmp_path / "images" / "2_shs dog"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (160, 160), (number * 90, 60, 120)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a dog\n", encoding="utf-8")
    return folder


def config(tmp_path: Path, **subset: object) -> Callable[[], DatasetBlueprint]:
    """A function that reads a config with one subset; JSON can contain what no path can have."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"datasets": [{"resolution": 64, "subsets": [subset]}]}), encoding="utf-8")
    return lambda: read_config(path, {}, FORMS)


def faults(act: Callable[[], object]) -> tuple[Problem, ...]:
    with another_user(), pytest.raises(UserError) as error:
        act()
    assert all("\n" not in line and len(line) < 900 for line in error.value.problems)
    return error.value.problems


def scanned(tmp_path: Path, images: Path, **more: object) -> Scan:
    with another_user():
        return scan(config(tmp_path, image_dir=str(images), caption_extension=".txt", class_tokens="shs dog", **more)())


@pytest.mark.parametrize("name", [key.name for key in KEYS.values() if key.path is not None])
def test_each_key_that_names_a_place_is_refused_in_one_line(name: str, places: dict[str, str], images: Path, tmp_path: Path) -> None:
    wrong = PARTS if KEYS[name].path == "part of a name" else {place: places[place] for place in CODES if place in places}
    for place, value in wrong.items():
        read = config(tmp_path, **({"image_dir": str(images)} | {name: value}))
        lines = [line for line in faults(read) if name in line]
        kinds = {("unreadable", "folder"), ("closed folder", "file")}
        code = "" if place in PARTS or (place, KEYS[name].path) in kinds else CODES[place]
        assert any(not code or line.code == code for line in lines) or place == "nul", (place, lines)


@posix
def test_special_files_among_the_images_are_passed_over_and_counted(images: Path, tmp_path: Path) -> None:
    os.mkfifo(images / "a.png")
    os.mkfifo(images / "0.caption")
    result = scanned(tmp_path, images)
    assert [record.path.name for record in result.records] == ["0.png", "1.png"]
    message(result.findings, "2 pipes", "skipped", "0.caption, a.png")


@posix
def test_a_caption_that_is_a_pipe_is_passed_over_and_counted(images: Path, tmp_path: Path) -> None:
    (images / "0.txt").unlink()
    os.mkfifo(images / "0.txt")
    result = scanned(tmp_path, images)
    assert [record.caption for record in result.records] == ["shs dog", "a dog"]
    message(result.findings, "1 pipe", "skipped", "0.txt")


@posix
def test_a_folder_with_nothing_but_pipes_says_so(images: Path, tmp_path: Path) -> None:
    for path in images.iterdir():
        path.unlink()
    os.mkfifo(images / "a.png")
    refusal(faults(lambda: scanned(tmp_path, images)), "DATA-003", images, "pipes", "a.png")


@posix
@pytest.mark.parametrize("name", ["0.png", "0.txt"])
@pytest.mark.parametrize(
    ("place", "words"), [("loop", "circle"), ("dangling", "does not exist"), ("device", None), ("closed", "may not read the folder")]
)
def test_a_link_that_leads_nowhere_good_is_one_line(
    images: Path, tmp_path: Path, name: str, place: str, words: str | None, places: dict[str, str]
) -> None:
    (images / name).unlink()
    (images / name).symlink_to(images / name if place == "loop" else places[place])
    if words is None:  # /dev/zero behind a name
        assert any("skipped" in line for line in scanned(tmp_path, images).findings)
        return
    (line,) = faults(lambda: scanned(tmp_path, images))
    message(line, images / name, words)


@posix
def test_an_image_and_a_caption_that_may_not_be_read_are_one_line_each(images: Path, tmp_path: Path) -> None:
    for name in ("0.png", "1.txt"):
        (images / name).chmod(0)
    refusals(faults(lambda: scanned(tmp_path, images)), ("DATA-004", "1.txt", "may not read"), ("DATA-001", "0.png", "may not read"))


@posix
def test_a_closed_folder_of_the_old_form_is_one_line(images: Path) -> None:
    images.chmod(0)
    try:
        lines = faults(lambda: from_folders(images.parent, None, {"resolution": "64"}))
        refusals(lines, ("PATH-004", "--train_data_dir", images))
    finally:
        images.chmod(0o755)


@posix
@pytest.mark.parametrize("kind", ["pipe", "closed"])
def test_masks_that_cannot_be_opened_are_one_line(images: Path, tmp_path: Path, kind: str) -> None:
    masks = images.parent / "masks"
    masks.mkdir()
    for number in range(2):
        Image.new("L", (160, 160), 255).save(masks / f"{number}.png")
    (masks / "0.png").chmod(0)
    if kind == "pipe":
        (masks / "0.png").unlink()
        os.mkfifo(masks / "0.png")
    lines = faults(lambda: with_masks(scanned(tmp_path, images, conditioning_data_dir=str(masks)), True))
    refusals(lines, ("DATA-010", masks / "0.png", "named pipe" if kind == "pipe" else "may not read"))


@posix
def test_entries_of_a_metadata_file_say_why_their_images_cannot_be_opened(images: Path, places: dict[str, str], tmp_path: Path) -> None:
    table = {
        str(images / "0"): {"caption": "a"},
        places["closed"]: {"caption": "b"},
        places["long"]: {"caption": "c"},
        "a\0": {"tags": "d"},
    }
    file = images.parent / "meta.json"
    file.write_text(json.dumps(table), encoding="utf-8")
    with another_user():
        result = scan(config(tmp_path, metadata_file=str(file))())
    message(result.findings, "may not read")
    assert len(result.records) == 1
    del table[str(images / "0")]
    file.write_text(json.dumps(table), encoding="utf-8")
    refusals(faults(lambda: scan(config(tmp_path, metadata_file=str(file))())), ("DATA-006", "3 entries", "may not read"))


@posix
def test_latents_and_the_index_that_are_pipes_do_not_hold_up_a_scan(images: Path, tmp_path: Path) -> None:
    from library.data.scan.latent_headers import read_foreign

    os.mkfifo(images / ".sd-scan.json")
    os.mkfifo(images / "0.npz")
    assert len(scanned(tmp_path, images).records) == 2
    with pytest.raises(OSError, match="is a named pipe"):
        read_foreign(images / "0.npz")


@posix
def test_the_other_user_meets_closed_doors_and_goes_again(places: dict[str, str]) -> None:
    with another_user(), pytest.raises(PermissionError):
        Path(places["unreadable"]).read_bytes()
    if os.geteuid() == 0:
        assert Path(places["unreadable"]).read_bytes()
