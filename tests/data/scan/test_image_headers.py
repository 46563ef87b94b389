"""Files that were truncated are found before a run, wherever they were cut; whole ones are not decoded."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from library.data.inspection.image_signature import look_at
from library.data.pixels import masks
from library.data.pixels.images import read_rgb
from library.data.scan.image_headers import Unreadable, read_header

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("share", [0.08, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
def test_a_photograph_cut_anywhere_is_found(photos: Path, tmp_path: Path, share: float):
    """Real JPEG data is full of 0 bytes, and of the end mark's two bytes with a 0 between them."""
    for photo in photos.glob("*.jpg"):
        data = photo.read_bytes()
        cut = tmp_path / photo.name
        cut.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(Unreadable, match="truncated"):
            read_header(cut)


def test_whole_photographs_are_fine(photos: Path):
    assert all(read_header(photo).format == "JPEG" for photo in photos.glob("*.jpg"))


def test_a_huge_image_is_no_attack_to_warn_of(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_000)).save(tmp_path / "huge.png")
    code = (
        "import sys, pathlib; from library.data.scan.image_headers import read_header; print(read_header(pathlib.Path(sys.argv[1])).size)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "huge.png"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "(10000, 9000)" and done.stderr == ""


def test_no_image_is_too_large_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PIL's limit set low, over the double of which it refuses an image; every way to read one lifts it."""
    path = tmp_path / "a.png"
    Image.new("RGBA", (64, 48), "red").save(path)
    for read in (read_header, read_rgb, look_at, masks._opacity):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        read(path)


@pytest.mark.skipif(sys.platform == "win32", reason="libtiff is inside of Pillow's own library")
def test_what_is_wrong_with_a_tiff_is_told_by_us_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff writes to the standard error stream itself."""
    path = tmp_path / "x.tif"
    Image.effect_noise((96, 80), 60).convert("RGB").save(path, compression="tiff_lzw")
    data = path.read_bytes()
    path.write_bytes(data[:200] + b"\xff" * 300 + data[500:])
    with pytest.raises(Unreadable):
        read_header(path)
    assert capfd.readouterr().err == ""
