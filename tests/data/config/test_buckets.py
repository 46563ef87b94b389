"""Sizes and the keys of buckets in a dataset config: refused with the nearest that can be trained, told where they do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.config.faults import ONE, faults
from tests.data.material import read
from tests.messages import message, refusals


@pytest.mark.parametrize(
    ("dataset", "asked"),
    [
        ("", ("CFG-011", "resolution = 512")),
        ("resolution = 500", ("OPT-017", "500×500", "by 8", "by 64", "512×512")),
        ("resolution = '51a'", ("CFG-008", '"51a"', "pixels")),
        ("resolution = true", ("CFG-008", "is true", "pixels")),
        ("resolution = 512\nenable_bucket = true\nmin_bucket_reso = 1024\nmax_bucket_reso = 256",
         ("OPT-017", "min_bucket_reso 1024", "max_bucket_reso 256")),
        ("resolution = 512\nenable_bucket = true\nmin_bucket_reso = 300",
         ("OPT-017", "min_bucket_reso 300", "bucket_reso_steps 64", "256 or 320")),
        ("resolution = 512\nenable_bucket = true\nmax_bucket_reso = 1000", ("OPT-017", "max_bucket_reso 1000", "960 or 1024")),
        ("resolution = 512\nenable_bucket = true\nbucket_reso_steps = 20", ("OPT-017", "bucket_reso_steps 20", "by 8")),
        ("resolution = 128\nenable_bucket = true", ("OPT-017", "min_bucket_reso 256", "128×128", "min_bucket_reso = 64")),
        ("resolution = 64\nenable_bucket = true\nmin_bucket_reso = 32",
         ("OPT-017", "min_bucket_reso 32", "bucket_reso_steps 64", "nearest: 64", "lower bucket_reso_steps")),
        ("resolution = [512, 192]\nenable_bucket = true", ("OPT-017", "min_bucket_reso 256", "512×192", "min_bucket_reso = 64")),
        ("resolution = [512, 1536]\nenable_bucket = true", ("OPT-017", "max_bucket_reso 1024", "512×1536", "max_bucket_reso = 3072")),
        ("resolution = 1536\nenable_bucket = true", ("OPT-017", "max_bucket_reso 1024", "1536×1536", "max_bucket_reso = 3072")),
        ("resolution = 48\nenable_bucket = true\nbucket_no_upscale = true", ("OPT-017", "48×48", "bucket_reso_steps 64")),
    ],
)  # fmt: skip
def test_size_that_cannot_be_trained_is_refused_with_the_nearest_that_can(folder: Path, dataset: str, asked: tuple[str, ...]) -> None:
    refusals(faults(folder, ONE.format(dataset, "")), (*asked, "set.toml: datasets[0]"))


@pytest.mark.parametrize("steps", [8, 24, 40, 48, 64])
@pytest.mark.parametrize("size", [64, 80, 96, 120, 128, 136, 192, 248])
def test_the_proposed_smallest_side_is_accepted(folder: Path, size: int, steps: int) -> None:
    keys = f"resolution = {size}\nenable_bucket = true\nbucket_reso_steps = {steps}\nmax_bucket_reso = {-(-1024 // steps) * steps}\n"
    (line,) = faults(folder, ONE.format(keys + f"min_bucket_reso = {-(-256 // steps) * steps}", ""))
    proposed = dict(one.split(" = ") for one in line.rpartition("; set ")[2].split(" and "))
    keys = f"resolution = {size}\nenable_bucket = true\nmax_bucket_reso = {-(-1024 // steps) * steps}\n"
    new = {"bucket_reso_steps": str(steps)} | proposed
    read(folder, ONE.replace("HERE", folder.as_posix()).format(keys + "\n".join(f"{key} = {value}" for key, value in new.items()), ""))
    assert int(new["min_bucket_reso"]) <= size / 2


def test_min_and_max_do_not_matter_without_buckets_or_upscaling(folder: Path) -> None:
    text = ONE.replace("HERE", folder.as_posix())
    read(folder, text.format("resolution = 128", ""))
    read(folder, text.format("resolution = 128\nenable_bucket = true\nbucket_no_upscale = true", ""))


@pytest.mark.parametrize(("steps", "used"), [(1, 8), (7, 8), (8, 8), (32, 32)])
def test_the_finest_steps_of_buckets_are_8_pixels(folder: Path, steps: int, used: int) -> None:
    text = ONE.format(f"resolution = 512\nenable_bucket = true\nbucket_reso_steps = {steps}", "").replace("HERE", folder.as_posix())
    assert read(folder, text).datasets[0].options.bucket_reso_steps == used


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("min_bucket_reso = 128\nbucket_no_upscale = true", ("min_bucket_reso and bucket_no_upscale", "enable_bucket = true")),
        ("bucket_reso_steps = 32", ("bucket_reso_steps", "enable_bucket = true", "remove it")),
        ("enable_bucket = true\nbucket_no_upscale = true\nmax_bucket_reso = 2048", ("max_bucket_reso", "bucket_no_upscale", "remove it")),
        ("enable_bucket = true\nmin_bucket_reso = 128\nbucket_reso_steps = 32", ()),
        ("enable_bucket = true\nbucket_no_upscale = true\nbucket_reso_steps = 32", ()),
        ("min_bucket_reso = 256", ()),  # the value without the key
    ],
)
def test_keys_of_buckets_that_do_nothing_are_told(folder: Path, dataset: str, names: tuple[str, ...]) -> None:
    findings = read(folder, ONE.format(f"resolution = 512\n{dataset}", "").replace("HERE", folder.as_posix())).findings
    assert len(findings) == bool(names)
    if names:
        message(findings, "set.toml: datasets[0]:", *names)
