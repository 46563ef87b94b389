"""Transparent colours in every bit depth, and EXIF blocks of every kind, also those that say nonsense."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.data.inspection.image_signature import look_at
from library.data.inspection.inspection import inspect
from library.data.pixels.decode import decode
from library.data.pixels.images import read_rgb
from library.data.scan.image_headers import read_header
from library.data.scan.records import survey
from library.data.scan.scan_index import ScanIndex
from tests.data.material import photo, read


def png(path: Path, values: np.ndarray, colour_type: int, depth: int, key: tuple[int, ...]) -> Path:
    """A PNG written by the specification (W3C PNG, third edition, ch. 5 to 11): values [H,W,channels], each of `depth` bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = values.shape
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        bits = (values.reshape(height, -1)[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        rows = [np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", struct.pack(f">{channels}H", *key)) + body + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("background", [(255, 255, 255), (10, 20, 30)])
@pytest.mark.parametrize(("colour_type", "depth"), [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16)])
def test_the_transparent_colour_of_a_png_becomes_the_background(tmp_path: Path, colour_type: int, depth: int, background: tuple) -> None:
    """Also where a neighbour differs in the last bit only, which is none of the 8 that are trained."""
    channels, most = (1, 3)[colour_type == 2], 2**depth - 1
    values = np.zeros((8, 16, channels), dtype=np.int64)
    key = tuple((most * 2 // 3 + number) % (most + 1) for number in range(channels))
    values[:, :8] = key
    values[:, 8:] = np.array(key) ^ 1
    found = read_rgb(png(tmp_path / "a.png", values, colour_type, depth, key), background=background)
    assert (found[:, :8] == background).all()
    kept = np.broadcast_to((values[:, 8:] / most * 255), (8, 8, 3))
    assert np.abs(found[:, 8:] - kept).max() <= 0.51
    alpha = np.asarray(decode(tmp_path / "a.png").alpha)
    assert (alpha[:, :8] == 0).all() and (alpha[:, 8:] == 255).all()
    assert look_at(tmp_path / "a.png").clear


def exif(value: int | bytes, kind: int = 3, count: int = 1, entries: int = 1, magic: bytes = b"II*\0", offset: int = 8) -> bytes:
    """An EXIF block whose one entry is the orientation."""
    data = value if isinstance(value, bytes) else struct.pack("<HH", value, 0)
    return magic + struct.pack("<I", offset) + struct.pack("<HHHI", entries, 0x0112, kind, count) + data + b"\0\0\0\0"


MALFORMED = {
    "garbage": b"this is no EXIF block at all",
    "empty": b"",
    "cut": exif(6)[:11],
    "cut in its head": b"II",
    "wrong magic": exif(6, magic=b"XX*\0"),
    "offset outside": exif(6, offset=100_000),
    "value outside": exif(struct.pack("<I", 99_999), kind=2, count=400),
    "more entries than there are": exif(273, entries=9000)[:30],
    "of a kind that is none": exif(6, kind=99),
    "text": exif(b"six\0", kind=2, count=4),
    "a fraction of nothing": exif(struct.pack("<I", 0), kind=5, count=1),
    **{str(number): exif(number) for number in (0, 9, 66, 77, 273, 65535)},
}
SAVE = {".png": {}, ".webp": {"lossless": True}, ".jpg": {"quality": 95}}


@pytest.mark.parametrize("ending", [*SAVE, ".behind.png"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_exif_block_is_no_damage_and_no_turn(tmp_path: Path, name: str, ending: str) -> None:
    plain, path = photo(tmp_path / f"plain{ending[-4:] if ending[-4] == '.' else ending}", (40, 24)), tmp_path / f"a{ending}"
    _with_exif(plain, path, MALFORMED[name])
    header = read_header(path)
    assert header.size == (40, 24) and header.orientation == 1
    with Image.open(plain) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.abs(read_rgb(path).astype(int) - expected).mean() < 4
    look_at(path)


@pytest.mark.parametrize("ending", [*SAVE, ".behind.png"])
@pytest.mark.parametrize("number", range(2, 9))
def test_what_the_camera_noted_is_turned(tmp_path: Path, number: int, ending: str) -> None:
    plain, path = photo(tmp_path / f"plain{ending[-4:] if ending[-4] == '.' else ending}", (40, 24)), tmp_path / f"a{ending}"
    _with_exif(plain, path, exif(number))
    with Image.open(plain) as image:
        stored = np.asarray(image.convert("RGB")).astype(int)
    # EXIF 2.32, 4.6.4: where the first row and the first column of the file stand
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1)}.get(number, (1, 1))
    turned = stored[::rows, ::columns]
    if number >= 5:
        swapped = stored.transpose(1, 0, 2)
        turned = {5: swapped, 6: swapped[:, ::-1], 7: swapped[::-1, ::-1], 8: swapped[::-1]}[number]
    assert read_header(path).size == turned.shape[1::-1] and read_header(path).orientation == number
    assert np.abs(read_rgb(path).astype(int) - turned).mean() < 4


def test_a_tiff_is_turned_once(tmp_path: Path) -> None:
    with Image.open(photo(tmp_path / "plain.png", (40, 24))) as image:
        stored = np.asarray(image)
        image.save(tmp_path / "a.tif", tiffinfo={274: 6})
    assert read_header(tmp_path / "a.tif").size == (24, 40)
    assert np.array_equal(read_rgb(tmp_path / "a.tif"), stored.transpose(1, 0, 2)[:, ::-1])


def _with_exif(plain: Path, path: Path, block: bytes) -> None:
    with Image.open(plain) as image:
        if path.name.endswith(".behind.png"):  # behind the picture, as some programs write it
            image.save(path)
            data = path.read_bytes()
            chunk = b"eXIf" + block
            path.write_bytes(data[:-12] + struct.pack(">I", len(block)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[-12:])
        else:
            image.save(path, exif=b"Exif\0\0" + block, **SAVE[path.suffix])


def test_run_and_report_agree_that_such_images_are_sound(tmp_path: Path) -> None:
    for number, block in enumerate(MALFORMED.values()):
        for ending in SAVE:
            plain = photo(tmp_path / "plain" / f"{number}{ending}", (160, 140), seed=number * 3 + len(ending))
            (tmp_path / "set").mkdir(exist_ok=True)
            _with_exif(plain, tmp_path / "set" / plain.name, block)
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'set'}'\nclass_tokens = 'x'\n"
    found = survey(read(tmp_path, text), ScanIndex())
    assert not found.faults and not found.findings and len(found.records) == 3 * len(MALFORMED)
    assert not [one for one in inspect(found, ScanIndex()) if one.level == "error" or "turned" in one.text]
