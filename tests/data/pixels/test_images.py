"""Pixels of a draw: upright, on white, of any colour mode, scaled, cropped, flipped, coloured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.data.batching.buckets import Placement, place
from library.data.config.blueprint import DatasetOptions, SubsetOptions
from library.data.pixels.images import crop_corner, face_box, flipped, load_image, part_shown, read_rgb, resize
from library.data.scan.records import ImageRecord
from tests.data.material import photo
from tests.messages import refused


def record(path: Path, size: tuple[int, int] = (96, 64), **settings: object) -> ImageRecord:
    return ImageRecord(path.parent, path.name, size, "", SubsetOptions(**settings), 0, "0/0/x")


def as_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint((image + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)


# EXIF orientation -> what turns the upright image into the stored one (EXIF 2.32, 4.6.4)
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = np.asarray(Image.open(photo(tmp_path / "x.png")))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(tmp_path / "y.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "y.png"), upright)


def test_transparency_lies_on_white_and_hidden_colours_never_show(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., 0] = 255  # pure red …
    pixels[:2, :, 3] = 0  # … hidden above
    pixels[2, :, 3] = 128  # … half seen
    pixels[3, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    Image.fromarray(pixels).save(tmp_path / "x.webp", lossless=True, exact=True)
    for name in ("x.png", "x.webp"):
        seen = read_rgb(tmp_path / name)
        assert (seen[:2] == 255).all()
        assert np.abs(seen[2].astype(int) - [255, 127, 127]).max() <= 1
        assert (seen[3] == [255, 0, 0]).all()


def test_transparent_palette_greyscale_and_colour_key_lie_on_white(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 2))
    palette.putpalette([200, 0, 0, 0, 100, 0])
    palette.putdata([0, 1] * 4)
    palette.save(tmp_path / "p.png", transparency=0)
    assert (read_rgb(tmp_path / "p.png").reshape(4, 2, 3) == [[255, 255, 255], [0, 100, 0]]).all()
    palette.save(tmp_path / "a.png", transparency=bytes([128, 255]))
    assert np.abs(read_rgb(tmp_path / "a.png")[0, 0].astype(int) - [227, 127, 127]).max() <= 1
    Image.fromarray(np.array([[[50, 0], [50, 255]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert read_rgb(tmp_path / "la.png")[0].tolist() == [[255] * 3, [50] * 3]
    Image.fromarray(np.array([[[9, 9, 9], [1, 2, 3]]], np.uint8)).save(tmp_path / "key.png", transparency=(9, 9, 9))
    assert read_rgb(tmp_path / "key.png")[0].tolist() == [[255] * 3, [1, 2, 3]]


def test_sixteen_bit_greyscale_is_scaled_not_cut(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 200, 257, 32768, 65535]], np.uint16)).save(tmp_path / "x.png")
    assert read_rgb(tmp_path / "x.png")[0, :, 0].tolist() == [0, 1, 1, 128, 255]


def test_greyscale_bilevel_and_cmyk_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 100, 255]], np.uint8)).save(tmp_path / "l.png")
    assert read_rgb(tmp_path / "l.png")[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    assert read_rgb(tmp_path / "1.png")[0].tolist() == [[255] * 3, [0] * 3]
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(tmp_path / "c.jpg", quality=100)
    assert np.abs(read_rgb(tmp_path / "c.jpg").astype(int) - [200, 40, 90]).max() <= 3


def test_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("x.webp", "x.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert (read_rgb(tmp_path / name) == [255, 0, 0]).all() or (read_rgb(tmp_path / name) == [254, 0, 0]).all()


def test_jpeg_named_png_is_read(tmp_path: Path) -> None:
    expected = np.asarray(Image.open(photo(tmp_path / "x.jpg")))
    (tmp_path / "x.jpg").rename(tmp_path / "x.png")
    assert np.array_equal(read_rgb(tmp_path / "x.png"), expected)


def test_large_jpeg_is_decoded_small_only_where_that_still_covers_and_looks_the_same(tmp_path: Path) -> None:
    path = photo(tmp_path / "x.jpg", (1500, 1000))
    assert read_rgb(path, (768, 512)).shape == (1000, 1500, 3)
    reduced = read_rgb(path, (384, 256))
    assert reduced.shape == (500, 750, 3)
    whole = resize(read_rgb(path), (384, 256)).astype(int)
    assert np.abs(resize(reduced, (384, 256)) - whole).mean() < 2
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(tmp_path / "turned.jpg", exif=exif)
    assert read_rgb(tmp_path / "turned.jpg", (500, 740)).shape == (750, 500, 3)
    assert read_rgb(tmp_path / "turned.jpg", (510, 100)).shape == (1500, 1000, 3)


def test_shrinking_averages_areas_and_growing_is_lanczos() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    blocks = pixels.reshape(32, 2, 48, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize(pixels, (48, 32)) - blocks).max() <= 1
    lanczos = np.asarray(Image.fromarray(pixels).resize((192, 128), Image.Resampling.LANCZOS))
    assert np.array_equal(resize(pixels, (192, 128)), lanczos)
    assert resize(pixels, (96, 64)) is pixels


def test_centre_is_cropped_and_scaled_to_minus_one_to_one(tmp_path: Path) -> None:
    path = photo(tmp_path / "x.png", (96, 64))
    pixels = np.asarray(Image.open(path))
    image = load_image(record(path), Placement((64, 48), (96, 64)), seed=5)
    assert image.shape == (3, 48, 64) and image.dtype == np.float32
    np.testing.assert_allclose(image, pixels[8:56, 16:80].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert image.min() >= -1 and image.max() <= 1


def test_random_crop_reaches_every_place_and_is_a_function_of_the_seed(tmp_path: Path) -> None:
    path = photo(tmp_path / "x.png", (96, 64))
    placement = Placement((64, 64), (67, 64))
    subset = SubsetOptions(random_crop=True)
    corners = Counter(crop_corner(subset, placement, seed) for seed in range(400))
    assert corners.keys() == {(0, 0), (1, 0), (2, 0), (3, 0)} and min(corners.values()) > 60
    one = record(path, random_crop=True)
    assert np.array_equal(load_image(one, placement, 3), load_image(one, placement, 3))
    assert crop_corner(subset, placement, None) == (1, 0)


def test_flip_mirrors_half_of_the_draws(tmp_path: Path) -> None:
    path = photo(tmp_path / "x.png", (64, 64))
    placement = Placement((64, 64), (64, 64))
    plain = load_image(record(path, (64, 64)), placement, None)
    flips = [flipped(SubsetOptions(flip_aug=True), seed) for seed in range(200)]
    assert 70 < sum(flips) < 130 and not any(flipped(SubsetOptions(), seed) for seed in range(50))
    for seed in range(6):
        seen = load_image(record(path, (64, 64), flip_aug=True), placement, seed)
        assert np.array_equal(seen, plain[:, :, ::-1] if flips[seed] else plain)


def test_colour_changes_a_third_of_the_draws_slightly(tmp_path: Path) -> None:
    path = photo(tmp_path / "x.png", (64, 64))
    placement = Placement((64, 64), (64, 64))
    plain = as_uint8(load_image(record(path, (64, 64)), placement, None)).astype(int)
    changes = [np.abs(as_uint8(load_image(record(path, (64, 64), color_aug=True), placement, seed)) - plain).mean() for seed in range(150)]
    assert 25 < sum(change > 0.3 for change in changes) < 75
    assert max(changes) < 25


def test_face_box_is_read_from_the_name() -> None:
    assert face_box(Path("my_girl_40_30_20_10.png")) == (40, 30, 20, 10)
    assert face_box(Path("girl_30_20_10.png")) is None and face_box(Path("a_b_40_30_20_x.png")) is None
    assert face_box(Path("girl_40_30_0_10.png")) is None


def test_face_crop_shows_the_face_at_the_wanted_size_in_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[180:220, 380:420] = 255  # a face of 40×40 around (400, 200)
    path = tmp_path / "girl_400_200_40_40.png"
    Image.fromarray(pixels).save(path)
    placement = place((600, 400), DatasetOptions((128, 128)))
    assert placement
    sides = []
    for seed in range(30):
        face = as_uint8(load_image(record(path, (600, 400), face_crop_aug_range=(3.2, 4.0)), placement, seed))[..., 0] > 127
        rows, columns = np.nonzero(face.any(1))[0], np.nonzero(face.any(0))[0]
        sides.append(len(rows))
        assert abs(rows.mean() - 63.5) <= 1 and abs(columns.mean() - 63.5) <= 1
    assert min(sides) >= 31 and max(sides) <= 41  # 128/4 = 32 … 128/3.2 = 40
    assert max(sides) - min(sides) >= 4


def test_face_crop_stays_inside_the_image_and_covers_the_bucket(tmp_path: Path) -> None:
    for size, name in [
        ((200, 100), "a_0_0_90_90"),
        ((200, 100), "a_199_99_5_5"),
        ((50, 300), "a_25_10_40_40"),
        ((128, 128), "a_64_64_9_9"),
    ]:
        path = photo(tmp_path / f"{name}.png", size)
        placement = place(size, DatasetOptions((128, 128)))
        assert placement
        for seed in range(4):
            one = record(path, size, face_crop_aug_range=(1.0, 3.0), random_crop=True)
            assert load_image(one, placement, seed).shape == (3, 128, 128)


def test_an_image_is_not_enlarged_for_a_small_face() -> None:
    one = record(Path("a_150_100_5_5.png"), (300, 200), face_crop_aug_range=(2.0, 2.0))
    assert part_shown(one, Placement((128, 128), (192, 128)), 3) == ((300, 200), (86, 36))  # 150 − 64, 100 − 64
    assert part_shown(one, Placement((400, 400), (600, 400)), 3) == ((600, 400), (100, 0))  # as much as covering takes


def test_random_crop_moves_the_face_by_half_of_it_at_most() -> None:
    one = record(Path("a_150_150_40_20.png"), (300, 300), face_crop_aug_range=(2.0, 2.0), random_crop=True)
    placement = Placement((80, 80), (80, 80))  # 2 × 40: nothing is scaled
    corners = {part_shown(one, placement, seed)[1] for seed in range(200)}
    across, down = zip(*corners, strict=True)
    assert 90 <= min(across) <= 94 and 126 <= max(across) <= 130  # 150 − 40 ± 20
    assert 100 <= min(down) <= 103 and 117 <= max(down) <= 120  # 150 − 40 ± 10


def test_image_that_vanished_or_changed_is_named(tmp_path: Path) -> None:
    placement = Placement((64, 64), (96, 64))
    with refused("DATA-001", tmp_path / "gone.png"):
        load_image(record(tmp_path / "gone.png"), placement, 1)
    path = photo(tmp_path / "x.png", (64, 96))
    with refused("DATA-002", path):
        load_image(record(path), placement, 1)
    with refused("DATA-002", path):  # by little
        load_image(record(path, (64, 98)), placement, 1)
    path.write_bytes(path.read_bytes()[:200])
    with refused("DATA-001", path):
        load_image(record(path), placement, 1)


@pytest.mark.parametrize("size", [(40, 30), (200, 150)])
def test_images_are_scaled_the_way_that_is_asked_for(size: tuple[int, int]) -> None:
    import cv2
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    expected = {
        "lanczos": np.asarray(picture.resize(size, Image.Resampling.LANCZOS)),
        "box": np.asarray(picture.resize(size, Image.Resampling.BOX)),
        "nearest": cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST_EXACT),
        "bilinear": cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR),
        "bicubic": cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC),
        "area": cv2.resize(pixels, size, interpolation=cv2.INTER_AREA),
    }
    for way, wanted in expected.items():
        assert (resize(pixels, size, way) == wanted).all(), way
    assert (resize(pixels, size, "linear") == expected["bilinear"]).all() and (resize(pixels, size, "cubic") == expected["bicubic"]).all()
    usual = "area" if size[0] < 100 else "lanczos"
    assert (resize(pixels, size) == expected[usual]).all()


def test_too_little_memory_for_an_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    path = photo(tmp_path / "a.png", (64, 64))
    monkeypatch.setattr("library.data.pixels.images._read", out_of_memory)
    with refused("DATA-001", path, "MemoryError"):
        load_image(record(path, (64, 64)), Placement((64, 64), (64, 64)), None)
