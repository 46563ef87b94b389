"""Images and latents that claim more than their bytes can contain, or something else: refused, in no time and no memory."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.containers.arrays_file import read_arrays
from library.data.pixels.decode import decode
from library.data.pixels.latent_files import read_latents
from library.data.pixels.masks import _stored_opacity
from library.data.scan.image_headers import ALWAYS_UNPACKED, RICHEST, Unreadable, open_image, read_header
from library.data.scan.latent_headers import read_foreign
from tests.lying.data_files import chunk, npy, png, sound_npz, write_npz, write_packed
from tests.messages import refused

ROOT = Path(__file__).parents[2]

# By what they say, PNGs that are none.
BOMBS = {
    "ten thousand million pixels": png(100_000, 100_000),
    "pixels without end": png((1 << 31) - 1, (1 << 31) - 1),
    "one row of a thousand million": png(1_000_000_000, 1),
    "one column of a thousand million": png(1, 1_000_000_000),
    "more than deflate can pack": png(12_000, 12_000),
    "more than a picture has, with all that deflate can pack": png(40_000, 40_000, zlib.compress(bytes(60 << 20), 9) + b"\0" * 4_000_000),
    "grey": png(200_000, 200_000, colour=0),
    "black and white": png(2_000_000, 2_000_000, colour=0, bits=1),
}
# Chunks next to a sound image that unpack to 100 MB.
_PACKED = zlib.compress(bytes(100 << 20), 9)
CHUNKS = {
    "a colour profile": chunk(b"iCCP", b"x\0\0" + _PACKED),
    "a text": chunk(b"zTXt", b"Comment\0\0" + _PACKED),
    "an international text": chunk(b"iTXt", b"Comment\0\1\0\0\0" + _PACKED),
}


@pytest.mark.parametrize("case", BOMBS)
def test_an_image_of_more_pixels_than_its_bytes_hold_is_not_opened(case: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(BOMBS[case])
    for read in (read_header, decode, open_image):
        with pytest.raises(Unreadable, match="which is impossible in"):
            read(tmp_path / "a.png")


def test_bombs_cost_no_memory_and_no_time(tmp_path: Path) -> None:
    """In a separate process: what is refused, and what unpacks next to a sound image, in under 2 s each and 200 MB."""
    row = b"\0" + bytes(3 * 64)
    for number, content in enumerate([*BOMBS.values(), *(png(64, 64, zlib.compress(row * 64), one) for one in CHUNKS.values())]):
        (tmp_path / f"{number}.png").write_bytes(content)
    done = subprocess.run([sys.executable, "-c", _READ_ALL, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert len(figures["seconds"]) == len(BOMBS) + len(CHUNKS) and max(figures["seconds"].values()) < 2, figures
    assert figures["peak"] is None or figures["peak"] < 200e6, figures


_READ_ALL = """
import json, sys, time
from pathlib import Path
from library.data.pixels.decode import decode
from library.data.scan.image_headers import read_header
seconds = {}
for path in Path(sys.argv[1]).iterdir():
    begun = time.process_time()
    for read in (read_header, decode):
        try:
            read(path)
        except Exception:
            pass
    seconds[path.name] = time.process_time() - begun
status = Path("/proc/self/status")
peak = next((int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line), None) if status.exists() else None
print(json.dumps({"seconds": seconds, "peak": peak}))
"""


def test_large_pictures_that_are_real_are_opened(tmp_path: Path) -> None:
    """White paper of 178 million pixels; a white mask of 600; a photograph of a thousand million. Of each the bytes that its image
    takes at the least, without the image."""
    (tmp_path / "paper.png").write_bytes(png(13_400, 13_400, bytes(3 * 13_400**2 // 1030)))
    assert read_header(tmp_path / "paper.png").size == (13_400, 13_400)
    (tmp_path / "mask.png").write_bytes(png(24_500, 24_500, bytes(24_500**2 // 1030), colour=0))
    assert read_header(tmp_path / "mask.png").size == (24_500, 24_500)
    photo = png(32_000, 32_000, b"\x5a" * (3 * 32_000**2 // RICHEST))
    (tmp_path / "photo.png").write_bytes(photo)
    assert ALWAYS_UNPACKED < 3 * 32_000**2 and read_header(tmp_path / "photo.png").size == (32_000, 32_000)


def test_other_formats_are_measured_too(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.gif")
    content = bytearray((tmp_path / "a.gif").read_bytes())
    content[6:10] = b"\xff\xff\xff\xff"  # 65535×65535
    (tmp_path / "a.gif").write_bytes(content)
    with pytest.raises(Unreadable, match="which is impossible in"):
        read_header(tmp_path / "a.gif")


NUMBERS = np.zeros((4, 8, 12), np.float32).tobytes()
# By what is wrong with it, the member `latents` of a file of latents.
LYING_ARRAYS = {
    "terabytes": npy((4, 1 << 18, 1 << 18)),
    "more numbers than never fit": npy((1 << 40, 1 << 40, 1 << 40)),
    "below zero": npy((-4, 8, 12), data=NUMBERS),
    "fewer bytes than numbers": npy((4, 8, 12), data=NUMBERS[:-8]),
    "more bytes than numbers": npy((4, 8, 12), data=NUMBERS + bytes(8)),
    "objects": npy((4, 8, 12), "|O", NUMBERS),
    "texts": npy((4, 8, 12), "<U8", NUMBERS * 8),
    "records": npy((4, 8, 12)).replace(b"'<f4'", b"[('a', '<f4')]"),
    "a kind that nobody knows": npy((4, 8, 12), "<q9", NUMBERS),
    "whole numbers": npy((4, 8, 12), "<i4", NUMBERS),
    "too few axes": npy((384,), data=NUMBERS),
    "a header that is not a table": b"\x93NUMPY\x01\x00\x06\x00[1,2]\n",
    "a header nested without end": b"\x93NUMPY\x01\x00\xff\x3f" + b"[" * 0x3FFF,
    "a header longer than the file": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
    "no header": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("case", LYING_ARRAYS)
def test_arrays_that_lie_are_damage(case: str, tmp_path: Path) -> None:
    file = write_npz(tmp_path / "a.npz", latents=LYING_ARRAYS[case])
    with pytest.raises(ValueError, match=r"damaged|not latents|not that of latents|far more|numbers are expected"):
        read_foreign(file)
        read_latents(file)


def test_an_archive_of_arrays_that_is_damaged_or_none_is_damage(tmp_path: Path) -> None:
    sound = sound_npz(tmp_path / "sound.npz").read_bytes()
    bare = npy((4, 8, 12), data=NUMBERS)
    central = sound.rindex(b"PK\x01\x02")
    encrypted = sound[: central + 8] + b"\1\0" + sound[central + 10 :]
    unknown = sound[: central + 10] + b"\x63\0" + sound[central + 12 :]
    first = sound.index(b"\x93NUMPY")
    contents = (
        b"",
        b"hello",
        bare,
        sound[:-40],
        sound[: len(sound) // 2],
        encrypted,
        unknown,
        sound[: first + 500] + b"\xff" + sound[first + 501 :],
    )
    for number, content in enumerate(contents):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            read_arrays(tmp_path / "a.npz")
            raise AssertionError(number)
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    for claimed in (300 << 20, 2000):
        write_packed(tmp_path / "a.npz", "latents.npy", packed, claimed)
        with pytest.raises(ValueError, match=r"unpacks from|damaged"):
            read_latents(tmp_path / "a.npz")


def test_sound_arrays_of_other_programs_are_read(tmp_path: Path) -> None:
    latents = np.random.default_rng(0).normal(size=(4, 8, 12)).astype(np.float16)
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "a.npz", latents=np.asfortranarray(latents), original_size=np.array((96, 64)))
        assert np.array_equal(read_latents(tmp_path / "a.npz"), latents.astype(np.float32))
        assert dataclasses.astuple(read_foreign(tmp_path / "a.npz")) == ((96, 64), (96, 64), False)


def test_sizes_of_images_that_are_none_are_left_out(tmp_path: Path) -> None:
    for said in (
        np.array((0, 64)),
        np.array((96, -1)),
        np.array((np.nan, 4.0)),
        np.array((np.inf, 4.0)),
        np.array((2**62, 4)),
        np.array(3),
    ):
        np.savez(tmp_path / "a.npz", latents=np.zeros((4, 8, 12), np.float32), original_size=said)
        assert read_foreign(tmp_path / "a.npz").image is None


def test_a_mask_beside_latents_that_lies_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"hello")
    with refused("DATA-015", f"latents {tmp_path / 'a.npz'}:", "damaged"):
        _stored_opacity(tmp_path / "a.npz", (96, 64))
    for mask, brightest in ((np.full((64, 96), 9.0), 255), (np.full((64, 96), np.nan), 0), (np.full((64, 96), -1.0), 0)):
        np.savez(tmp_path / "a.npz", latents=np.zeros((4, 8, 12), np.float32), alpha_mask=mask.astype(np.float32))
        assert _stored_opacity(tmp_path / "a.npz", (96, 64)).max() == brightest
    assert zipfile.is_zipfile(tmp_path / "a.npz")
