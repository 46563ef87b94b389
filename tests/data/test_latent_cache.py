"""Cached latents are those that encoding each draw would give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from library.data.buckets import FilledData
from library.data.dataset import TrainingDataset
from library.data.latent_cache import LatentCache, draw_latents
from library.data.sampler import EpochSampler
from library.diffusion.noise import gaussian
from library.errors import UserError
from tests.data.material import encode, filled, one_epoch, photos, tokenize

CONFIG = """
[[datasets]]
resolution = 64
batch_size = 3
enable_bucket = true
min_bucket_reso = 32
max_bucket_reso = 128
bucket_reso_steps = 32
  [[datasets.subsets]]
  image_dir = '{0}/dog'
  class_tokens = 'dog'
  flip_aug = true
  num_repeats = 2
  [[datasets.subsets]]
  image_dir = '{0}/cat'
  class_tokens = 'cat'
"""


@pytest.fixture
def data(tmp_path: Path) -> FilledData:
    photos(tmp_path / "dog", 4, (100, 64))
    photos(tmp_path / "cat", 5, (64, 70))
    return filled(tmp_path, CONFIG.format(tmp_path.as_posix()))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_attached_latents_equal_encoding_the_loaded_images(data: FilledData, batch_size: int) -> None:
    cache = LatentCache.build(data, encode, batch_size)
    sampler = EpochSampler(data, 7)
    pixels = one_epoch(TrainingDataset(data, tokenize), sampler, 0)
    texts = one_epoch(TrainingDataset(data, tokenize, with_images=False), sampler, 0)
    for with_images, without in zip(pixels, texts, strict=True):
        latents = cache.attach(without).latents
        assert latents is not None and latents.dtype == torch.float32
        torch.testing.assert_close(latents, draw_latents(encode(with_images.images), with_images.seeds), rtol=0, atol=1e-6)


def test_a_draw_is_the_mean_plus_the_deviation_times_the_images_own_noise() -> None:
    moments = torch.randn(3, 8, 5, 6)
    seeds = torch.tensor([5, 2**62 + 1, 5])
    drawn = draw_latents(moments, seeds)
    noise = gaussian((3, 4, 5, 6), seeds, "vae", torch.device("cpu"))  # what uncached images get
    assert torch.equal(drawn, moments[:, :4] + torch.exp(0.5 * moments[:, 4:]) * noise)
    assert torch.equal(draw_latents(moments[1:2], [2**62 + 1])[0], drawn[1])
    assert torch.isfinite(draw_latents(torch.full((1, 8, 2, 2), 1e4), [1])).all()


def test_draws_differ_from_epoch_to_epoch(data: FilledData) -> None:
    cache = LatentCache.build(data, encode)
    first, second = cache.latents([0], [False], [1]), cache.latents([0], [False], [2])
    assert not torch.equal(first, second) and torch.equal(first, cache.latents([0], [False], [1]))


def test_each_image_is_encoded_once_and_its_mirror_once(data: FilledData) -> None:
    seen: list[int] = []

    class Bar:
        total, done, closed = 0, 0, False

        def update(self, n: int) -> None:
            self.done += n

        def close(self) -> None:
            self.closed = True

    bar = Bar()

    def progress(total: int) -> Bar:
        bar.total = total
        return bar

    def counting(images: Tensor) -> Tensor:
        seen.append(len(images))
        return encode(images)

    LatentCache.build(data, counting, 3, progress)
    assert sum(seen) == 4 * 2 + 5 == bar.total == bar.done and bar.closed and max(seen) == 3


def test_processes_that_gather_encode_their_part_and_have_all(data: FilledData) -> None:
    parts: list = []
    counts = []
    for process in range(2):
        counted: list[int] = []

        def counting(images: Tensor, counted: list[int] = counted) -> Tensor:
            counted.append(len(images))
            return encode(images)

        LatentCache.build(data, counting, 2, None, process, 2, gather=lambda part: parts.append(part) or [])
        counts.append(sum(counted))
    assert sum(counts) == 13 and min(counts) >= 6
    both = LatentCache.build(data, encode, 2, None, 0, 2, gather=lambda part: parts)
    alone = LatentCache.build(data, encode, 2)
    for index, record in enumerate(data.records):
        for flip in {False, record.subset.flip_aug}:
            assert torch.equal(both.latents([index], [flip], [1]), alone.latents([index], [flip], [1]))


def test_image_without_finite_latents_is_named(data: FilledData) -> None:
    with pytest.raises(UserError, match=r"no finite numbers for .*\.png"):
        LatentCache.build(data, lambda images: encode(images) * torch.nan)
