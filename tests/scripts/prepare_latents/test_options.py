"""The options of finetune/prepare_buckets_latents.py: which images, at which sizes, how many at once, how exactly."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from library.data.pixels import latent_build
from library.model.bundle import moments
from library.training.caches import latents
from tests.messages import message
from tests.scripts.prepare_latents.starting import entries, prepare, train


def test_full_path_and_recursive_choose_the_entries(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(folder, tiny_v1) == 0  # not the folders inside
    assert ["train_resolution" in entry for entry in entries(folder).values()] == [True, True, True, False]
    assert prepare(folder, tiny_v1, "--full_path", "--recursive", source="full.json") == 0
    assert all("train_resolution" in entry for entry in entries(folder).values())
    assert train(folder, tiny_v1, "full", max_train_steps=1, train_data_dir=folder) == 0
    assert prepare(folder, tiny_v1, "--full_path") == 2
    assert "names no image" in capsys.readouterr().err and entries(folder)


def test_sizes_follow_the_options(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(folder, tiny_v1, "--max_resolution", "128,128", "--bucket_no_upscale") == 0
    assert [entry.get("train_resolution") for entry in entries(folder).values()] == [[96, 64], [64, 64], [64, 96], None]
    assert prepare(folder, tiny_v1, "--max_resolution", "128", "--max_bucket_reso", 96, "--min_bucket_reso", 96) == 2
    assert "max_bucket_reso 96" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "size"),
    [
        (None, None, [32, 96]),
        ("--max_resolution", "128,128", [64, 128]),
        ("--max_bucket_reso", 64, [32, 64]),
        ("--min_bucket_reso", 64, [64, 64]),
        ("--bucket_reso_steps", 16, [48, 80]),
    ],
)
def test_each_option_of_sizes_moves_an_image_to_another_bucket(
    folder: Path, tiny_v1: Path, flag: str | None, value: object, size: list[int]
) -> None:
    """An image of 70 x 120, by the rule of the buckets worked out by hand."""
    assert prepare(folder, tiny_v1, *([flag, value] if flag else [])) == 0
    assert entries(folder)["2"]["train_resolution"] == size
    assert np.load(folder / "pictures" / "2.npz")["latents"].shape == (4, size[1] // 8, size[0] // 8)


@pytest.mark.parametrize(("flags", "batches"), [((), [1, 1, 1, 1]), (("--batch_size", 2), [1, 1, 2]), (("--batch_size", 4), [1, 3])])
def test_the_vae_sees_as_many_images_at_once_as_asked_for(folder: Path, tiny_v1: Path, flags: tuple, batches: list, monkeypatch) -> None:
    """Three of the four images share a bucket."""
    seen = []
    monkeypatch.setattr(latents, "moments", lambda vae, images: seen.append(len(images)) or moments(vae, images))
    assert prepare(folder, tiny_v1, "--recursive", *flags) == 0
    assert sorted(seen) == batches


@pytest.mark.parametrize(("flags", "threads"), [(("--max_data_loader_n_workers", 1), 1), (("--max_data_loader_n_workers", 3), 3), ((), 4)])
def test_as_many_threads_read_images_as_asked_for(folder: Path, tiny_v1: Path, flags: tuple, threads: int, monkeypatch) -> None:
    """Left out: one for each processor but one. Two more write what is done."""
    pools = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int) -> None:
            pools.append(max_workers)
            super().__init__(max_workers)

    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(latent_build, "ThreadPoolExecutor", Pool)
    assert prepare(folder, tiny_v1, *flags) == 0
    assert sorted(pools) == sorted([2, threads])


def test_v2_changes_nothing_since_a_vae_belongs_to_no_version(folder: Path, tiny_v2: Path) -> None:
    def made(*flags: str) -> dict[str, np.ndarray]:
        assert prepare(folder, tiny_v2, *flags) == 0
        return dict(np.load(folder / "pictures" / "0.npz"))

    plain, flagged = made(), made("--v2")
    assert plain.keys() == flagged.keys()
    assert all(np.array_equal(plain[name], flagged[name]) for name in ("latents", "log_variance"))


def test_half_precision_is_close_and_read_by_a_run_in_full_precision(folder: Path, tiny_v1: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(folder, tiny_v1, "--recursive") == 0
    exact = np.load(folder / "pictures" / "1.npz")["latents"]
    assert prepare(folder, tiny_v1, "--recursive", "--mixed_precision", "bf16") == 0
    rough = np.load(folder / "pictures" / "1.npz")["latents"]
    assert not np.array_equal(rough, exact) and np.abs(rough - exact).max() < 0.1 * max(1, np.abs(exact).max())
    assert train(folder, tiny_v1, "out", max_train_steps=1) == 0
    message(capsys.readouterr().err, "latents: 4 of 4", "on disk")
    assert prepare(folder, tiny_v1, "--mixed_precision", "fp16") == 2  # a CPU has no fp16
