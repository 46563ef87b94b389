"""Latents on disk are used exactly where they fit: image bytes, encoder, size and crop, mirror image, name."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from library.data import latent_build, latent_files
from library.data.buckets import FilledData, Placement
from library.data.latent_build import build, look
from library.data.latent_cache import LatentCache
from library.data.latent_files import cache_file, crop_ltrb, read_binding, read_latents
from library.data.latent_plan import (
    CHANGED,
    DAMAGED,
    MEAN_ONLY,
    NEW,
    NO_MIRROR,
    OLDER,
    OTHER_CROP,
    OTHER_PRECISION,
    OTHER_VAE,
    CacheRules,
    remove_files,
    tell,
)
from library.errors import UserError
from tests.data.material import encode, filled, photo, photos

ROOT = Path(__file__).parents[2]
CONFIG = """
[[datasets]]
resolution = {1}
enable_bucket = true
min_bucket_reso = 32
max_bucket_reso = 128
bucket_reso_steps = 32
  [[datasets.subsets]]
  image_dir = '{0}/dog'
  class_tokens = 'dog'
  flip_aug = {2}
  [[datasets.subsets]]
  image_dir = '{0}/cat'
  class_tokens = 'cat'
"""
RULES = CacheRules("vae 1", file_of=cache_file)


def read(folder: Path, resolution: int = 64, flip: bool = False) -> FilledData:
    return filled(folder, CONFIG.format(folder.as_posix(), resolution, str(flip).lower()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine images in two buckets, changed long ago as far as the file system knows."""
    for path in [*photos(tmp_path / "dog", 4, (100, 64)), *photos(tmp_path / "cat", 5, (64, 70))]:
        os.utime(path, (1.7e9, 1.7e9))
    return tmp_path


@pytest.fixture(autouse=True)
def _long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of the tests are as fresh as can be; a time of freshness of nothing lets their stamps be relied on."""
    monkeypatch.setattr(latent_files, "_FRESH", -1)


class Counting:
    """The stand-in for the VAE, with the number of images that it has seen."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return encode(images)


def made(data: FilledData, rules: CacheRules = RULES, **more: object) -> tuple[LatentCache, int]:
    """The cache and how many images were encoded for it."""
    counting = Counting()
    return build(look(data, rules), counting, 2, **more), counting.images


def reasons(data: FilledData, rules: CacheRules = RULES) -> dict[str, list[str]]:
    """The names of the images that would be made anew, by reason."""
    source = look(data, rules)
    found: dict[str, list[str]] = {}
    for number in source.missing:
        found.setdefault(source.verdicts[number], []).append(data.records[source.works[number].record].path.name)
    return found


def all_latents(data: FilledData, cache: LatentCache) -> Tensor:
    return torch.cat([cache.latents(index, seed).flatten() for index in range(len(data.records)) for seed in (1, 2, 3)])


def test_latents_from_files_are_those_from_memory_bit_for_bit_and_nothing_is_encoded_twice(folder: Path) -> None:
    data = read(folder, flip=True)
    first, encoded = made(data)
    assert encoded == 4 * 2 + 5 and not first.in_memory
    again, encoded = made(data)
    assert encoded == 0 and not again.in_memory
    memory, _ = made(data, CacheRules())
    assert memory.in_memory
    assert torch.equal(all_latents(data, memory), all_latents(data, first)) and torch.equal(
        all_latents(data, memory), all_latents(data, again)
    )
    assert sorted(path.name for path in (folder / "cat").glob("*.npz")) == [f"{n:02}.png.64x64.npz" for n in range(5)]


def one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1  # inside the last chunks of the PNG: the picture may even look the same
    path.write_bytes(data)


def test_one_changed_byte_remakes_that_image_alone(folder: Path) -> None:
    data = read(folder)
    made(data)
    photo(folder / "cat/02.png", (64, 70), seed=99)
    assert reasons(data) == {CHANGED: ["02.png"]}
    cache, encoded = made(data)
    assert encoded == 1 and reasons(data) == {}
    record = next(index for index, record in enumerate(data.records) if record.path.name == "02.png" and record.path.parent.name == "cat")
    fresh, _ = made(data, CacheRules())
    assert torch.equal(cache.latents(record, 5), fresh.latents(record, 5))


def test_a_change_that_leaves_size_and_time_is_seen_where_the_system_keeps_a_time_that_nobody_can_set(folder: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows keeps the time of creation there")
    data = read(folder)
    made(data)
    path = folder / "cat/01.png"
    before = path.stat()
    one_byte(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert reasons(data) == {CHANGED: ["01.png"]}


def test_a_second_start_reads_no_image_and_a_touched_one_is_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read(folder)
    made(data)
    hashed: list[Path] = []
    real = latent_build.sha256
    monkeypatch.setattr("library.data.latent_plan.sha256", lambda path: hashed.append(path) or real(path))
    assert reasons(data) == {} and hashed == []
    os.utime(folder / "dog/00.png", (1.71e9, 1.71e9))
    assert reasons(data) == {} and hashed == [folder / "dog/00.png"]
    assert reasons(data) == {} and len(hashed) == 1  # the new time is remembered


def test_the_time_of_a_fresh_image_is_not_relied_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_files, "_FRESH", 3 * 10**9)
    data = read(folder)
    made(data)
    file = cache_file(folder / "cat/00.png", (64, 64))
    assert read_binding(file).stat is None
    assert reasons(data) == {} and read_binding(file).stat is None


CHANGES: dict[str, tuple[dict, CacheRules, str]] = {
    "vae": ({}, replace(RULES, vae="vae 2"), OTHER_VAE),
    "resolution": ({"resolution": 96}, RULES, OTHER_CROP),
    "precision": ({}, replace(RULES, precision="bfloat16"), OTHER_PRECISION),
    "deviation": ({}, RULES, MEAN_ONLY),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_encoder_or_resolution_remakes_all(folder: Path, what: str) -> None:
    made(read(folder), replace(RULES, distribution=what != "deviation"))
    changed, rules, reason = CHANGES[what]
    data = read(folder, **changed)
    found = reasons(data, rules)
    assert list(found) == [reason] and len(found[reason]) == 9
    assert made(data, rules)[1] == 9 and reasons(data, rules) == {}


def test_another_crop_to_the_same_size_remakes(folder: Path) -> None:
    data = read(folder)
    made(data)
    larger = replace(data.placements[4], resized=(80, 88))
    other = replace(data, placements=(*data.placements[:4], larger, *data.placements[5:]))
    assert reasons(other) == {OTHER_CROP: ["00.png"]}


def test_going_back_to_a_resolution_finds_its_latents_again(folder: Path) -> None:
    made(read(folder))
    made(read(folder, resolution=96))
    assert reasons(read(folder)) == {} and reasons(read(folder, resolution=96)) == {}


def test_the_mean_alone_is_taken_from_files_with_the_deviation(folder: Path) -> None:
    data = read(folder)
    made(data)
    cache, encoded = made(data, replace(RULES, distribution=False))
    assert encoded == 0
    fresh, _ = made(data, CacheRules(distribution=False))
    assert torch.equal(fresh.latents(0, 1), fresh.latents(0, 2))
    assert torch.equal(cache.latents(0, 1), fresh.latents(0, 1))


def test_mirror_images_are_added_where_they_are_asked_for(folder: Path) -> None:
    made(read(folder))
    assert reasons(read(folder, flip=True)) == {NO_MIRROR: [f"{n:02}.png" for n in range(4)]}
    assert made(read(folder, flip=True))[1] == 8
    assert reasons(read(folder)) == {}  # a file that has more than is needed will do


def test_a_renamed_image_is_a_new_one_and_a_png_and_a_jpg_are_two(folder: Path) -> None:
    made(read(folder))
    (folder / "cat/03.png").rename(folder / "cat/13.png")
    photo(folder / "cat/04.jpg", (64, 70), seed=70)
    data = read(folder)
    assert reasons(data) == {NEW: ["04.jpg", "13.png"]}
    cache, _ = made(data)
    two = [index for index, record in enumerate(data.records) if record.path.stem == "04"]
    assert len(two) == 2 and not torch.allclose(cache.latents(two[0], 1), cache.latents(two[1], 1), atol=0.05)


def test_damaged_and_cut_files_are_remade(folder: Path) -> None:
    data = read(folder)
    made(data)
    for name, content in (("00", b""), ("01", b"PK\5\6"), ("02", None)):
        file = folder / f"cat/{name}.png.64x64.npz"
        file.write_bytes(file.read_bytes()[:-7] if content is None else content)
    assert reasons(data) == {DAMAGED: ["00.png", "01.png", "02.png"]}
    assert made(data)[1] == 3


def test_what_is_used_and_what_is_remade_is_told_in_a_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = read(folder)
    made(data)
    photo(folder / "cat/02.png", (64, 70), seed=99)
    photo(folder / "cat/77.png", (64, 70), seed=77)
    cache_file(data.records[0].path, data.placements[0].bucket).write_bytes(b"")
    with caplog.at_level(logging.INFO, "sd"):
        logging.getLogger("sd").propagate = True
        tell(look(read(folder), RULES).verdicts.values())
    line = "latents: 7 of 10 lie in files beside the images; 2 of 10 remade: 1 damaged, 1 with a changed image; 1 new"
    assert set(caplog.messages) == {line}  # pytest may hear the logger twice


def test_removing_leaves_images_and_the_files_of_others(folder: Path) -> None:
    data = read(folder)
    made(data)
    np.savez(folder / "cat/00.npz", latents=np.zeros((4, 8, 8), np.float32))
    assert remove_files(data) == 9
    assert [path.name for path in folder.rglob("*.npz")] == ["00.npz"] and len(list(folder.rglob("*.png"))) == 9


# Files of other programs.


def foreign(folder: Path, name: str, size: tuple[int, int] = (8, 8), **more: object) -> np.ndarray:
    latents = np.random.default_rng(3).normal(size=(4, size[1], size[0])).astype(np.float32)
    np.savez(folder / name, **{"latents": latents, "original_size": np.array([64, 70]), "crop_ltrb": np.array([0, 0, 64, 64]), **more})
    return latents


def test_files_of_older_suites_are_read_where_shape_and_size_are_right(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cat = folder / "cat"
    latents = foreign(cat, "00.npz")
    foreign(cat, "01.npz", (16, 8))  # another resolution
    foreign(cat, "02.npz", original_size=np.array([70, 64]))  # of the image before it was turned
    np.savez(cat / "03.npz", latents)  # older still: one array without a name
    foreign(cat, "04.npz")
    os.utime(cat / "04.npz", (1.6e9, 1.6e9))  # the image was changed afterwards
    data = read(folder)
    source = look(data, RULES)
    assert reasons(data) == {NEW: [f"{n:02}.png" for n in range(4)], OTHER_CROP: ["01.png", "02.png"], OLDER: ["04.png"]}
    with caplog.at_level(logging.INFO, "sd"):
        logging.getLogger("sd").propagate = True
        tell(source.verdicts.values())
    assert "2 are of another program" in caplog.messages[1]
    cache, encoded = made(data)
    assert encoded == 7
    first = next(index for index, record in enumerate(data.records) if record.path == cat / "00.png")
    for index in (first, first + 3):
        assert torch.equal(cache.latents(index, 1), torch.from_numpy(latents)) and torch.equal(
            cache.latents(index, 2), cache.latents(index, 1)
        )


def test_mirror_images_of_older_suites_are_read_from_both_places(folder: Path) -> None:
    dog = folder / "dog"
    sizes = np.array([100, 64])
    bucket = read(folder).placements[0].bucket
    shape = (bucket[0] // 8, bucket[1] // 8)
    mirrored = np.full((4, shape[1], shape[0]), 5, np.float32)
    foreign(dog, "00.npz", shape, original_size=sizes, latents_flipped=mirrored)
    foreign(dog, "01.npz", shape, original_size=sizes)
    np.savez(dog / "01_flip.npz", mirrored)
    foreign(dog, "02.npz", shape, original_size=sizes)
    data = read(folder, flip=True)
    assert reasons(data)[NO_MIRROR] == ["02.png"] and reasons(data)[NEW][0] == "03.png"
    cache, _ = made(data)
    for index in (0, 1):
        flips = {cache.flipped(index, seed): cache.latents(index, seed) for seed in range(20)}
        assert (flips[True] == 5).all() and not (flips[False] == 5).any()


def test_a_file_that_two_images_could_mean_is_not_read(folder: Path) -> None:
    foreign(folder / "cat", "00.npz")
    assert "00.png" not in reasons(read(folder))[NEW][4:]
    photo(folder / "cat/00.jpg", (64, 70))
    assert reasons(read(folder))[NEW].count("00.png") == 2 and "00.jpg" in reasons(read(folder))[NEW]


def test_our_files_are_read_by_programs_of_that_layout(folder: Path) -> None:
    data = read(folder, flip=True)
    made(data)
    place = data.placements[0]
    found = np.load(cache_file(data.records[0].path, place.bucket))
    width, height = place.bucket
    assert found["latents"].shape == found["latents_flipped"].shape == (4, height // 8, width // 8) and found["latents"].dtype == np.float32
    assert tuple(found["original_size"]) == (100, 64) and found["crop_ltrb"].shape == (4,)
    moments = read_latents(cache_file(data.records[0].path, place.bucket))
    assert np.array_equal(found["latents"], moments[:4]) and moments.shape[0] == 8


def test_crop_is_told_in_pixels_of_the_image() -> None:
    assert crop_ltrb((1000, 500), Placement((512, 512), (1024, 512))) == (250, 0, 750, 500)
    assert crop_ltrb((64, 64), Placement((64, 64), (64, 64))) == (0, 0, 64, 64)


# Disks that are full, processes that are killed, processes that share the work.


def test_a_full_disk_is_told_in_one_line_and_the_rest_stays_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = Counter()
    real = latent_build.write_latents

    def full(file: Path, *rest: object) -> None:
        written[file.parent.name] += 1
        if file.parent.name == "cat" and written["cat"] > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        real(file, *rest)

    monkeypatch.setattr(latent_build, "write_latents", full)
    data = read(folder)
    logging.getLogger("sd").propagate = True
    with caplog.at_level(logging.WARNING, "sd"):
        cache, encoded = made(data)
    (line,) = caplog.messages
    assert "latents of 3 images stay in memory" in line and "No space left" in line and str(folder / "cat") in line
    assert encoded == 9 and cache.in_memory
    assert torch.equal(all_latents(data, cache), all_latents(data, made(data, CacheRules())[0]))
    monkeypatch.setattr(latent_build, "write_latents", real)
    assert made(data)[1] == 3  # only they


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", place], capture_output=True).returncode
    ):
        pytest.skip("no right to mount a file system here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_file_system_that_is_really_full_gives_the_same_and_holds_no_half_file(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos(small_disk / "dog", 4, (100, 64))
    photos(small_disk / "cat", 5, (64, 70))
    data = read(small_disk)
    left = os.statvfs(small_disk)
    (small_disk / "rest").write_bytes(bytes(left.f_bavail * left.f_frsize - 20_000))  # room for two or three entries
    logging.getLogger("sd").propagate = True
    with caplog.at_level(logging.WARNING, "sd"):
        cache, encoded = made(data)
    there = len(list(small_disk.rglob("*.npz")))
    assert 0 < there < 9 and encoded == 9 and cache.in_memory and not list(small_disk.rglob("*.tmp"))
    (line,) = caplog.messages
    assert f"latents of {9 - there} images stay in memory" in line and "No space left on device" in line
    (small_disk / "rest").unlink()
    again, encoded = made(data)
    assert encoded == 9 - there and torch.equal(all_latents(data, cache), all_latents(data, again))


def test_a_folder_that_cannot_be_written_is_trained_from_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(file: Path, *rest: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))

    monkeypatch.setattr(latent_build, "write_latents", refused)
    cache, encoded = made(read(folder))
    assert encoded == 9 and cache.in_memory


KILLED = """
import sys, time
from pathlib import Path
from library.data.latent_build import build, look
from tests.data.material import encode
from tests.data.test_latent_files import RULES, read

def slow(images):
    print(len(images), flush=True)
    time.sleep(0.2)
    return encode(images)

build(look(read(Path(sys.argv[1])), RULES), slow, 1, threads=2)
"""


def test_killed_while_caching_and_started_again_leaves_no_broken_entry_and_does_nothing_twice(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."}
    )
    until = time.monotonic() + 60
    while len(list(folder.rglob("*.npz"))) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    seen = len(process.communicate()[0].split())
    there = list(folder.rglob("*.npz"))
    assert 3 <= len(there) < 9 and seen < 9
    for file in there:
        assert read_binding(file) is not None and read_latents(file).shape[0] == 8
    data = read(folder)
    cache, encoded = made(data)
    assert encoded == 9 - len(there) and seen - len(there) <= 2  # what was under way, and written behind it
    assert torch.equal(all_latents(data, cache), all_latents(data, made(data, CacheRules())[0]))


def test_left_overs_of_a_killed_writer_are_cleared_when_nobody_can_be_writing_them(folder: Path) -> None:
    old, fresh, other = (folder / "cat" / f".{name}.tmp" for name in ("00.png.64x64.npz.01234567", "00.png.64x64.npz.89abcdef", "mine"))
    for path in (old, fresh, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (1.7e9, 1.7e9))
    made(read(folder))
    assert not old.exists() and fresh.exists() and other.exists()


def in_step(processes: int) -> Callable[[int], Callable[[object], list[object]]]:
    """What `accelerate` gives processes to exchange their parts: every one waits for all and gets all."""
    barrier, parts = threading.Barrier(processes), [None] * processes

    def of(process: int) -> Callable[[object], list[object]]:
        def gather(part: object) -> list[object]:
            barrier.wait(30)
            parts[process] = part
            barrier.wait(30)
            return list(parts)

        return gather

    return of


@pytest.mark.parametrize("to_disk", [True, False])
def test_two_processes_share_the_work_and_both_have_all(folder: Path, to_disk: bool) -> None:
    rules = replace(RULES, file_of=cache_file if to_disk else None)
    data = read(folder, flip=True)
    gathers, counts, caches = in_step(2), [Counting(), Counting()], [None, None]

    def work(process: int) -> None:
        mine = dict(process=process, processes=2, gather=gathers(process))
        caches[process] = build(look(data, rules, **mine), counts[process], 2, **mine)

    threads = [threading.Thread(target=work, args=(process,)) for process in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.images for one in counts) == 13 and min(one.images for one in counts) >= 5
    alone = all_latents(data, made(data, CacheRules())[0])
    for cache in caches:
        assert torch.equal(all_latents(data, cache), alone)
    assert len(list(folder.rglob("*.npz"))) == (9 if to_disk else 0)


# Images that cannot be read.


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_an_image_damaged_inside_is_left_out_and_told(folder: Path) -> None:
    data = read(folder)
    spoil(folder / "cat/02.png")
    cache, encoded = made(data)
    assert encoded == 8 and not (folder / "cat/02.png.64x64.npz").exists()
    (line,) = cache.unreadable
    assert str(folder / "cat/02.png") in line
    with pytest.raises(UserError, match=r"cat.02\.png"):
        cache.latents(next(index for index, one in enumerate(data.records) if one.path == folder / "cat/02.png"), 1)


def test_a_cache_can_be_sent_to_loader_workers(folder: Path) -> None:
    data = read(folder)
    cache, _ = made(data)
    assert torch.equal(pickle.loads(pickle.dumps(cache)).latents(0, 3), cache.latents(0, 3))
