"""resize_images_to_resolution.py: copies of the right size and name, nothing enlarged, nothing overwritten."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.preparation.shrink import read_resolutions, shrunk_size
from tests.data.material import photo
from tests.messages import message, refusal, refusals, refused
from tests.scripts.running import run_in_process
from tools import resize_images_to_resolution


def resize(*argv: object) -> int:
    return run_in_process(resize_images_to_resolution.main, *argv)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photo(tmp_path / "large" / "wide.png", size=(400, 100))
    photo(tmp_path / "large" / "small.jpg", size=(50, 40), seed=1)
    return tmp_path / "large"


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: Image.open(path).size for path in sorted(folder.iterdir()) if path.suffix in (".png", ".jpg")}


def test_each_resolution_gets_a_copy_with_at_most_its_pixels_and_the_same_aspect(folder: Path, tmp_path: Path) -> None:
    assert resize(folder, tmp_path / "new" / "out", "--max_resolution", "100x100,50x50") == 0
    assert sizes(tmp_path / "new" / "out") == {
        "small+100x100.jpg": (50, 40),
        "small+50x50.jpg": (50, 40),
        "wide+100x100.jpg": (200, 50),
        "wide+50x50.jpg": (100, 25),
    }


def test_the_resolutions_that_users_know_are_the_default(folder: Path, tmp_path: Path) -> None:
    assert resize(folder, tmp_path / "out") == 0
    assert [name for name in sizes(tmp_path / "out") if name.startswith("wide")] == [
        f"wide+{side}x{side}.jpg" for side in (128, 256, 384, 512)
    ]


def test_sides_are_cropped_around_the_centre_to_a_multiple(folder: Path, tmp_path: Path) -> None:
    assert resize(folder, tmp_path / "out", "--max_resolution", "1000x1000", "--divisible_by", 32, "--save_as_png") == 0
    assert sizes(tmp_path / "out") == {"small+1000x1000.png": (32, 32), "wide+1000x1000.png": (384, 96)}
    whole = np.asarray(Image.open(folder / "wide.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "wide+1000x1000.png")), whole[2:98, 8:392])


@pytest.mark.parametrize("way", ["area", "cubic", "lanczos4"])
def test_pixels_are_averaged_as_asked(folder: Path, tmp_path: Path, way: str) -> None:
    import cv2

    assert resize(folder, tmp_path / "out", "--max_resolution", "100x100", "--interpolation", way, "--save_as_png") == 0
    pixels = np.asarray(Image.open(tmp_path / "out" / "wide+100x100.png"))
    whole = np.asarray(Image.open(folder / "wide.png"))
    assert np.array_equal(pixels, cv2.resize(whole, (200, 50), interpolation=getattr(cv2, f"INTER_{way.upper()}")))


def test_files_of_an_image_go_with_its_copies_if_asked(folder: Path, tmp_path: Path) -> None:
    for name in ("wide.txt", "wide.caption", "wide.npz", "other.txt"):
        (folder / name).write_text(name, encoding="utf-8")
    assert resize(folder, tmp_path / "out", "--max_resolution", "64x64") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["small+64x64.jpg", "wide+64x64.jpg"]
    assert resize(folder, tmp_path / "out", "--max_resolution", "64x64", "--copy_associated_files") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["small+64x64.jpg", "wide+64x64.caption", "wide+64x64.jpg", "wide+64x64.txt"]
    assert (tmp_path / "out" / "wide+64x64.txt").read_text(encoding="utf-8") == "wide.txt"


def test_images_that_differ_in_their_ending_only_do_not_overwrite_each_other(folder: Path, tmp_path: Path) -> None:
    photo(folder / "wide.jpg", size=(30, 30))
    (folder / "wide.txt").write_text("both", encoding="utf-8")
    assert resize(folder, tmp_path / "out", "--max_resolution", "100x100", "--copy_associated_files") == 0
    copies = sizes(tmp_path / "out")
    assert copies["wide.jpg+100x100.jpg"] == (30, 30) and copies["wide.png+100x100.jpg"] == (200, 50)
    assert (tmp_path / "out" / "wide.jpg+100x100.txt").is_file() and (tmp_path / "out" / "wide.png+100x100.txt").is_file()


def test_a_bad_image_is_told_and_the_rest_is_done(folder: Path, tmp_path: Path, capsys) -> None:
    (folder / "broken.png").write_bytes((folder / "wide.png").read_bytes()[:300])
    photo(folder / "thin.png", size=(400, 3))
    assert resize(folder, tmp_path / "out", "--max_resolution", "64x64", "--divisible_by", "8") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(
        errors,
        ("DATA-001", folder / "broken.png"),
        ("DATA-027", folder / "thin.png", "400x3", "--divisible_by 8"),
        ("TOOL-001", "2 copies of 4 images", tmp_path / "out"),
    )
    assert list(sizes(tmp_path / "out")) == ["small+64x64.jpg", "wide+64x64.jpg"]


@pytest.mark.parametrize(
    ("size", "most", "small"),
    [
        ((3000, 2000), (512, 512), (627, 418)),
        ((512, 512), (512, 512), (512, 512)),
        ((400, 100), (100, 100), (200, 50)),
        ((9, 9), (99, 99), (9, 9)),
    ],
)
def test_the_size_has_at_most_the_pixels_asked_for(size: tuple, most: tuple, small: tuple) -> None:
    assert shrunk_size(size, most) == small
    assert small[0] * small[1] <= most[0] * most[1]


def test_resolutions_are_read_from_a_list() -> None:
    assert read_resolutions("512x768, 64,64x64") == ((512, 768), (64, 64))
    for wrong in ("512*512", "", "0x3", "axb", "1x2x3", "9" * 5_000):
        with refused("OPT-006", "--max_resolution"):
            read_resolutions(wrong)


def test_wrong_folders_are_one_line(folder: Path, tmp_path: Path, capsys) -> None:
    assert resize(tmp_path / "none", tmp_path / "out") == 2
    assert resize(tmp_path, tmp_path / "out") == 2
    assert resize(folder, folder / "wide.png") == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "src_img_folder" in first and "no such folder" in first and "src_img_folder" in second and "dst_img_folder" in third


def test_copies_among_their_originals_are_warned_of(folder: Path, tmp_path: Path, capsys) -> None:
    assert resize(folder, folder, "--max_resolution", "100x100") == 0
    warning = message(capsys.readouterr().err, "dst_img_folder", "src_img_folder", "copies")
    assert resize(folder, tmp_path / "out", "--max_resolution", "100x100") == 0
    assert warning not in capsys.readouterr().err


def test_of_a_folder_without_images_it_is_told_what_it_holds(tmp_path: Path, capsys) -> None:
    for inside, words in ((), "empty"), (("a/b", "c"), "2 folders: a, c"):
        for name in inside:
            (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in").mkdir(exist_ok=True)
        assert resize(tmp_path / "in", tmp_path / "out") == 2
        refusal(capsys.readouterr().err, "DATA-003", tmp_path / "in", words)


def test_a_refusal_leaves_no_empty_folder(folder: Path, tmp_path: Path) -> None:
    assert resize(folder, tmp_path / "small" / "er", "--max_resolution", "64x64", "--divisible_by", 30_000) == 2
    assert not (tmp_path / "small").exists()
