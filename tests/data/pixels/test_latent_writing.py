"""Latents are written whole or not at all: on disks that are full, by processes that are killed, by processes that share the work."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from library.data.pixels import latent_build
from library.data.pixels.latent_build import build, look
from library.data.pixels.latent_files import cache_file, read_binding, read_latents
from library.data.pixels.latent_plan import CacheRules
from tests.data.material import photos
from tests.data.pixels.latent_material import RULES, Counting, all_latents, made, read
from tests.listening import Heard
from tests.messages import message

ROOT = Path(__file__).parents[3]


def test_a_full_disk_is_told_in_one_line_and_the_rest_stays_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard) -> None:
    written = Counter()
    real = latent_build.write_latents

    def full(file: Path, *rest: object) -> None:
        written[file.parent.name] += 1
        if file.parent.name == "cat" and written["cat"] > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        real(file, *rest)

    monkeypatch.setattr(latent_build, "write_latents", full)
    data = read(folder)
    cache, encoded = made(data)
    (line,) = heard.warnings
    message([line], "latents of 3 images", "memory", "No space left", folder / "cat")
    assert encoded == 9 and cache.in_memory
    assert torch.equal(all_latents(data, cache), all_latents(data, made(data, CacheRules())[0]))
    monkeypatch.setattr(latent_build, "write_latents", real)
    assert made(data)[1] == 3  # only they


@pytest.fixture
def small_disk(tmp_path: Path, long_ago: None) -> Iterator[Path]:
    """A separate file system of 400 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", place], capture_output=True).returncode
    ):
        pytest.skip("no right to mount a file system here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_file_system_that_is_really_full_gives_the_same_and_holds_no_half_file(small_disk: Path, heard: Heard) -> None:
    photos(small_disk / "dog", 4, (100, 64))
    photos(small_disk / "cat", 5, (64, 70))
    data = read(small_disk)
    left = os.statvfs(small_disk)
    (small_disk / "rest").write_bytes(bytes(left.f_bavail * left.f_frsize - 20_000))  # space for two or three entries
    cache, encoded = made(data)
    there = len(list(small_disk.rglob("*.npz")))
    assert 0 < there < 9 and encoded == 9 and cache.in_memory and not list(small_disk.rglob("*.tmp"))
    (line,) = heard.warnings
    message([line], f"latents of {9 - there} images", "memory", "No space left on device")
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
from library.data.pixels.latent_build import build, look
from tests.data.material import encode
from tests.data.pixels.latent_material import RULES, read

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
    until = time.monotonic() + 300
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
            barrier.wait(120)
            parts[process] = part
            barrier.wait(120)
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


def test_a_name_too_long_for_a_file_keeps_one_image_in_memory_and_not_its_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    real = latent_build.write_latents

    def long(file: Path, *rest: object) -> None:
        if file.name.startswith("00."):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(file))
        real(file, *rest)

    monkeypatch.setattr(latent_build, "write_latents", long)
    assert made(read(folder))[1] == 9
    (line,) = heard.warnings
    message([line.replace(os.sep, "/")], "latents of 2 images", "memory", "cat/00.png", "too long")
    assert made(read(folder))[1] == 2  # only they
