"""Images with colour profiles are trained in the colours that they show: held against formulas, not against the library that converts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from library.data.inspection.image_signature import look_at
from library.data.pixels.images import read_rgb
from library.data.scan.image_headers import Header, read_header
from library.data.scan.records import scan
from library.data.scan.scan_index import ScanIndex
from library.preparation.shrink import Shrink, shrink_images
from tests.data.material import filled, photo, read
from tests.data.pixels.profiles import ADOBE, P3, SRGB, cmyk_profile, grey_profile, rgb_profile, stored
from tests.messages import message

GREEN = (60, 200, 60)
SPACES = {
    "adobe": (ADOBE, 2.19921875),
    "p3": (P3, "sRGB"),
    "linear": (SRGB, 1),
    "gamma 1.8": (SRGB, 1.8),
}
LOSSLESS = {".png": {}, ".tif": {}, ".webp": {"lossless": True}}


def image_of(name: str, shape: tuple[int, int] = (48, 64)) -> Image.Image:
    """Visible green, in the numbers of a space."""
    primaries, gamma = SPACES[name]
    return Image.fromarray(np.full((*shape, 3), (stored(GREEN, primaries, gamma) * 255).round(), dtype=np.uint8))


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("name", SPACES)
def test_an_image_is_trained_in_the_colours_that_it_shows(tmp_path: Path, name: str, ending: str) -> None:
    options = LOSSLESS.get(ending, {"quality": 100, "subsampling": 0})
    image_of(name).save(tmp_path / f"a{ending}", icc_profile=rgb_profile(*SPACES[name]), **options)
    off = np.abs(read_rgb(tmp_path / f"a{ending}").astype(int) - GREEN).max()
    assert off <= (8 if ending == ".jpg" else 3)  # a step of the linear red is 2.4 here, and JPEG is off by one or two


def test_the_numbers_of_the_issue(tmp_path: Path) -> None:
    colours = np.array([image_of(name).getpixel((0, 0)) for name in ("adobe", "p3", "linear")])
    assert np.abs(colours - [(122, 199, 75), (104, 196, 83), (12, 147, 12)]).max() <= 1
    image_of("adobe").save(tmp_path / "a.png")
    assert (read_rgb(tmp_path / "a.png") == (122, 199, 75)).all(), "without a profile the numbers are sRGB's"


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "1"])
def test_grey_with_a_profile_of_grey(tmp_path: Path, mode: str) -> None:
    """A linear grey of 55/255 is an sRGB grey of 128."""
    image = Image.new("I;16", (20, 16), 55 * 257) if mode == "I;16" else Image.new("L", (20, 16), 55)
    image = image.convert(mode) if mode in ("LA", "1") else image
    image.save(tmp_path / "a.png", icc_profile=grey_profile(1))
    expected = 255 * (1.055 * (55 / 255) ** (1 / 2.4) - 0.055)
    pixels = read_rgb(tmp_path / "a.png")
    assert pixels.shape == (16, 20, 3)
    if mode == "1":
        assert set(np.unique(pixels)) <= {0, 255}
    else:
        assert np.abs(pixels - expected).max() <= 1 and read_header(tmp_path / "a.png").colour == "converted"


@pytest.mark.parametrize(("ending", "options"), [(".jpg", {"quality": 100}), (".webp", {"lossless": True}), (".tif", {})])
def test_grey_in_formats_that_store_it_as_colours(tmp_path: Path, ending: str, options: dict) -> None:
    Image.new("L", (24, 16), 55).save(tmp_path / f"a{ending}", icc_profile=grey_profile(1), **options)
    assert np.abs(read_rgb(tmp_path / f"a{ending}").astype(int) - 128).max() <= 2
    assert read_header(tmp_path / f"a{ending}").colour == "converted"


def test_all_greys_of_a_linear_profile(tmp_path: Path) -> None:
    """Also the darkest, of which the library's own short cut would be off by ten."""
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None], 4, axis=0)
    Image.fromarray(levels).save(tmp_path / "a.png", icc_profile=grey_profile(1))
    linear = levels / 255
    expected = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(read_rgb(tmp_path / "a.png")[..., 1] - expected).max() <= 1


def test_grey_with_a_profile_of_colours(tmp_path: Path) -> None:
    Image.new("L", (20, 16), 55).save(tmp_path / "a.png", icc_profile=rgb_profile(SRGB, 1))
    assert np.abs(read_rgb(tmp_path / "a.png").astype(int) - 128).max() <= 1


@pytest.mark.parametrize("ending", [".jpg", ".tif"])
def test_colours_of_printing_go_by_their_profile(tmp_path: Path, ending: str) -> None:
    """Half of the black ink on this press is L* 90, which is an sRGB grey of 226; Pillow alone would make 127 of it."""
    image = Image.new("CMYK", (24, 16), (0, 0, 0, 128))
    image.save(tmp_path / f"a{ending}", icc_profile=cmyk_profile(), **({"quality": 100} if ending == ".jpg" else {}))
    assert np.abs(read_rgb(tmp_path / f"a{ending}").astype(int) - 226).max() <= 2
    assert read_header(tmp_path / f"a{ending}").colour == "converted"


def test_lab_says_its_colours_itself(tmp_path: Path) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    ImageCms.profileToProfile(Image.new("RGB", (16, 16), GREEN), srgb, lab, outputMode="LAB").save(tmp_path / "a.tif", icc_profile=None)
    assert np.abs(read_rgb(tmp_path / "a.tif").astype(int) - GREEN).max() <= 4  # eight bits of a* are as coarse as that


def test_sixteen_bits_are_converted_without_bands(tmp_path: Path) -> None:
    """A ramp in the dark of a linear profile: cut to 8 bits first it would have 9 of some 80 steps."""
    ramp = np.linspace(0, 65535 * 0.034, 512).astype(np.uint16)
    wide = np.repeat(np.repeat(ramp[None, :, None], 8, axis=0), 3, axis=2)
    wide[..., 2] //= 2  # a colour, no grey
    _write_wide(tmp_path / "a.png", wide, rgb_profile(SRGB, 1))
    linear = wide / 65535
    expected = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels = read_rgb(tmp_path / "a.png")
    assert len(np.unique(pixels[..., 0])) > 45 and np.abs(pixels - expected).max() <= 2.5
    assert read_header(tmp_path / "a.png").colour == "converted"


@pytest.mark.parametrize("icc", [grey_profile(1), rgb_profile(SRGB, 1)])
def test_sixteen_bits_of_grey_are_converted_without_bands(tmp_path: Path, icc: bytes) -> None:
    ramp = np.repeat(np.linspace(0, 65535 * 0.034, 512).astype(np.uint16)[None], 8, axis=0)
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=icc)
    linear = ramp / 65535
    expected = 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels = read_rgb(tmp_path / "a.png")
    assert len(np.unique(pixels)) > 45 and np.abs(pixels[..., 1] - expected).max() <= 1.5


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_are_rounded_not_cut(tmp_path: Path, ending: str, channels: int) -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (16, 20, channels)).astype(np.uint16)
    if channels == 4:
        wide[..., 3] = 65535
    cv2.imwrite(str(tmp_path / f"a{ending}"), wide[..., [2, 1, 0, 3][:channels]])
    assert np.abs(read_rgb(tmp_path / f"a{ending}") - wide[..., :3] / 257).max() <= 0.5


def _write_wide(path: Path, wide: np.ndarray, icc: bytes) -> None:
    """OpenCV writes 16 bits and no profile; Pillow's chunk puts that behind the head."""
    import struct
    import zlib

    cv2.imwrite(str(path), wide[..., ::-1])
    data = path.read_bytes()
    body = b"iCCPx\0\0" + zlib.compress(icc)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + chunk + data[33:])


def test_what_is_hidden_stays_hidden_and_transparency_is_no_colour(tmp_path: Path) -> None:
    image = image_of("adobe").convert("RGBA")
    alpha = np.zeros((48, 64), dtype=np.uint8)
    alpha[:, 32:] = 128
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "a.png", icc_profile=rgb_profile(*SPACES["adobe"]))
    pixels = read_rgb(tmp_path / "a.png")
    assert (pixels[:, :32] == 255).all()
    assert np.abs(pixels[:, 32:] - (np.array(GREEN) * 128 + 255 * 127) / 255).max() <= 2


def test_a_palette_is_converted_too(tmp_path: Path) -> None:
    image_of("adobe").quantize(4).save(tmp_path / "a.png", icc_profile=rgb_profile(*SPACES["adobe"]))
    assert np.abs(read_rgb(tmp_path / "a.png").astype(int) - GREEN).max() <= 2


def test_the_profile_of_srgb_changes_no_bit(tmp_path: Path) -> None:
    plain = photo(tmp_path / "a.png", (80, 60))
    for number, icc in enumerate((ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), rgb_profile(SRGB, "sRGB"))):
        Image.open(plain).save(tmp_path / f"{number}.png", icc_profile=icc)
        assert np.array_equal(read_rgb(tmp_path / f"{number}.png"), read_rgb(plain))
        assert read_header(tmp_path / f"{number}.png").colour == ""


BROKEN = {
    "garbage": b"no profile at all" * 20,
    "cut": rgb_profile(*SPACES["adobe"])[:150],
    "of grey": grey_profile(1),
    "of printing": cmyk_profile(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_unusable_profile_keeps_the_pixels_and_is_noted(tmp_path: Path, name: str) -> None:
    photo(tmp_path / "plain.png", (160, 130))
    (tmp_path / "set").mkdir()
    Image.open(tmp_path / "plain.png").save(tmp_path / "set" / "a.png", icc_profile=BROKEN[name])
    assert np.array_equal(read_rgb(tmp_path / "set" / "a.png"), read_rgb(tmp_path / "plain.png"))
    findings = scan(
        read(tmp_path, f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'set'}'\nclass_tokens = 'x'\n")
    ).findings
    if name != "of grey":  # only the pixels show whether an image in colours is grey
        message(findings, "colour profile", "a.png")


def test_the_scan_knows_it_without_decoding_and_the_index_remembers(tmp_path: Path) -> None:
    image_of("p3").save(tmp_path / "a.png", icc_profile=rgb_profile(*SPACES["p3"]))
    photo(tmp_path / "b.png")
    data = filled(tmp_path, f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{tmp_path}'\nclass_tokens = 'x'\n")
    assert [record.converted for record in data.records] == [True, False]
    header = read_header(tmp_path / "a.png")
    index = ScanIndex()
    index.remember(tmp_path / "a.png", header)
    assert index.known(tmp_path / "a.png", Header) == header != replace(header, colour="")


def test_duplicates_and_smaller_copies_see_the_same_colours(tmp_path: Path) -> None:
    image_of("adobe").save(tmp_path / "a.png", icc_profile=rgb_profile(*SPACES["adobe"]))
    Image.new("RGB", (64, 48), GREEN).save(tmp_path / "b.png")
    ours, other = (bytes.fromhex(look_at(tmp_path / name).signature)[8:] for name in ("a.png", "b.png"))
    assert np.abs(np.frombuffer(ours, np.uint8).astype(int) - np.frombuffer(other, np.uint8)).max() <= 2
    (tmp_path / "small").mkdir()
    shrink_images([tmp_path / "a.png"], Shrink(tmp_path / "small", ((32, 32),), png=True))
    (copy,) = (tmp_path / "small").iterdir()
    with Image.open(copy) as small:
        assert "icc_profile" not in small.info and np.abs(np.asarray(small).astype(int) - GREEN).max() <= 2
