"""Latents in files of other suites are read where they surely fit, and ours are laid out as those suites read them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from library.data.batching.buckets import Placement
from library.data.pixels.latent_build import look
from library.data.pixels.latent_cache import LatentCache
from library.data.pixels.latent_files import cache_file, crop_ltrb, read_latents
from library.data.pixels.latent_plan import NEW, NO_MIRROR, OLDER, OTHER_CROP, Kept, tell
from library.data.scan.latent_headers import read_foreign
from tests.data.material import photo
from tests.data.pixels.latent_material import RULES, foreign, made, read, reasons
from tests.listening import Heard
from tests.messages import message


def test_files_of_older_suites_are_read_where_shape_and_size_are_right(folder: Path, heard: Heard) -> None:
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
    tell(source.verdicts.values())
    message(heard.lines[1:2], "2 are", "another program")
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
    arrays = np.load(cache_file(data.records[0].path, place.bucket))
    width, height = place.bucket
    assert (
        arrays["latents"].shape == arrays["latents_flipped"].shape == (4, height // 8, width // 8) and arrays["latents"].dtype == np.float32
    )
    assert tuple(arrays["original_size"]) == (100, 64) and arrays["crop_ltrb"].shape == (4,)
    moments = read_latents(cache_file(data.records[0].path, place.bucket))
    assert np.array_equal(arrays["latents"], moments[:4]) and moments.shape[0] == 8


def test_crop_is_told_in_pixels_of_the_image() -> None:
    assert crop_ltrb((1000, 500), Placement((512, 512), (1024, 512))) == (250, 0, 750, 500)
    assert crop_ltrb((64, 64), Placement((64, 64), (64, 64))) == (0, 0, 64, 64)


def test_a_mirror_file_of_another_size_is_no_mirror_image(folder: Path) -> None:
    cat = folder / "cat"
    for name, size in (("00", (8, 8)), ("01", (16, 8))):
        foreign(cat, f"{name}.npz")
        foreign(cat, f"{name}_flip.npz", size)
    assert read_foreign(cat / "00.npz").mirrored and not read_foreign(cat / "01.npz").mirrored


def test_only_latents_made_beforehand_bring_their_mirror_image_along(folder: Path) -> None:
    """Of a file from this suite the mirror image is used where flip_aug asks for it, no matter what else is in the file."""
    data = read(folder)
    data = replace(data, records=tuple(replace(record, train_resolution=(64, 64)) for record in data.records))
    for prepared in (True, False):
        verdict = Kept(folder / "x.npz", mirrored=True, bound=True, prepared=prepared)
        cache = LatentCache(data, [0] * len(data.records), {0: verdict}, {})
        assert any(cache.flipped(0, seed) for seed in range(20)) == prepared
