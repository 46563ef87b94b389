"""Latents on disk are used exactly where they fit: image bytes, encoder, size and crop, mirror image, name."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from library.data.pixels import latent_build, latent_files
from library.data.pixels.latent_build import look
from library.data.pixels.latent_files import cache_file, read_binding, write_latents
from library.data.pixels.latent_plan import (
    CHANGED,
    DAMAGED,
    MEAN_ONLY,
    NEW,
    NO_MIRROR,
    OTHER_CROP,
    OTHER_PRECISION,
    OTHER_READING,
    OTHER_VAE,
    CacheRules,
    remove_files,
    tell,
)
from tests.data.material import photo
from tests.data.pixels.latent_material import RULES, all_latents, made, read, reasons
from tests.listening import Heard
from tests.messages import message, refused


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
    data[-20] ^= 1  # inside the last chunks of the PNG: the image may even look the same
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
    monkeypatch.setattr("library.data.pixels.latent_plan.sha256", lambda path: hashed.append(path) or real(path))
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
    by_reason = reasons(data, rules)
    assert list(by_reason) == [reason] and len(by_reason[reason]) == 9
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


def test_what_is_used_and_what_is_remade_is_told_in_a_line(folder: Path, heard: Heard) -> None:
    data = read(folder)
    made(data)
    photo(folder / "cat/02.png", (64, 70), seed=99)
    photo(folder / "cat/77.png", (64, 70), seed=77)
    cache_file(data.records[0].path, data.placements[0].bucket).write_bytes(b"")
    tell(look(read(folder), RULES).verdicts.values())
    (line,) = heard.lines
    message([line], "7 of 10", "encoding 2 again", "1 damaged", "1 with a changed image", "1 new")


def test_removing_leaves_images_and_the_files_of_others(folder: Path) -> None:
    data = read(folder)
    made(data)
    np.savez(folder / "cat/00.npz", latents=np.zeros((4, 8, 8), np.float32))
    assert remove_files(data) == 9
    assert [path.name for path in folder.rglob("*.npz")] == ["00.npz"] and len(list(folder.rglob("*.png"))) == 9


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
    with refused("DATA-001", folder / "cat/02.png"):
        cache.latents(next(index for index, one in enumerate(data.records) if one.path == folder / "cat/02.png"), 1)


def test_a_cache_can_be_sent_to_loader_workers(folder: Path) -> None:
    data = read(folder)
    cache, _ = made(data)
    assert torch.equal(pickle.loads(pickle.dumps(cache)).latents(0, 3), cache.latents(0, 3))


def test_entries_of_versions_that_passed_over_colour_profiles_are_remade(folder: Path) -> None:
    data = read(folder)
    made(data)
    file = cache_file(folder / "cat/00.png", (64, 64))
    binding = read_binding(file)
    assert binding is not None and binding.pixels == 2, "raise it, and this number, with each change to the pixels that are read"
    with np.load(file) as entry:
        arrays = {name: entry[name] for name in entry.files}
    write_latents(file, arrays, replace(binding, pixels=1))
    assert reasons(data) == {OTHER_READING: ["00.png"]}
    assert made(data)[1] == 1 and reasons(data) == {}


def test_latents_are_bound_to_the_way_that_images_are_scaled_and_older_files_stay_valid(folder: Path) -> None:
    data = read(folder)
    made(data)
    assert b"interpolation" not in (folder / "cat/00.png.64x64.npz").read_bytes()  # as files were before there was a choice
    assert reasons(data) == {}
    blueprint = data.blueprint
    ways = {None: {}, "bicubic": 9, "cubic": {}, "bilinear": 9}  # what is encoded again after what existed before
    for way, remade in ways.items():
        records = tuple(replace(record, subset=replace(record.subset, resize_interpolation=way)) for record in data.records)
        changed = replace(data, records=records, blueprint=blueprint)
        by_reason = reasons(changed)
        assert by_reason == {} if remade == {} else {key: len(names) for key, names in by_reason.items()} == {OTHER_CROP: 9}, way
        made(changed)
        assert reasons(changed) == {}
    assert {key: len(names) for key, names in reasons(data).items()} == {OTHER_CROP: 9}


def test_one_image_scaled_two_ways_is_encoded_twice(folder: Path) -> None:
    photo(folder / "cat/09.png", (200, 190))
    data = read(folder)
    other = [replace(record, subset=replace(record.subset, resize_interpolation="nearest")) for record in data.records]
    both = replace(data, records=(*data.records, *other), placements=(*data.placements, *data.placements))
    cache, encoded = made(both)
    assert encoded == 2 * len(data.records)
    large = next(index for index, record in enumerate(data.records) if record.path.name == "09.png")
    assert not torch.equal(cache.latents(large, 5), cache.latents(len(data.records) + large, 5))
