"""Cached latents are those that encoding each draw would give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from library.data.batching.buckets import FilledData
from library.data.batching.sampler import EpochSampler
from library.data.loading.dataset import TrainingDataset
from library.data.pixels import latent_build
from library.data.pixels.device_copies import FromDevice, to_device
from library.data.pixels.latent_build import Encode, build, look
from library.data.pixels.latent_cache import LatentCache, draw_latents
from library.data.pixels.latent_plan import CacheRules
from library.diffusion.noise import gaussian
from tests.data.material import encode, filled, one_epoch, photo, photos, tokenize
from tests.messages import refused

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


def memory(data: FilledData, encode: Encode = encode, batch_size: int = 1, **more: object) -> LatentCache:
    return build(look(data, CacheRules()), encode, batch_size, **more)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_cached_latents_equal_encoding_the_loaded_images(data: FilledData, batch_size: int) -> None:
    cache = memory(data, batch_size=batch_size)
    sampler = EpochSampler(data, 7)
    pixels = one_epoch(TrainingDataset(data, tokenize), sampler, 0)
    cached = one_epoch(TrainingDataset(data, tokenize, cache=cache), sampler, 0)
    for with_images, without in zip(pixels, cached, strict=True):
        latents = without.latents
        assert latents is not None and latents.dtype == torch.float32 and without.images is None
        torch.testing.assert_close(latents, draw_latents(encode(with_images.images), with_images.seeds), rtol=0, atol=1e-6)


def test_a_draw_is_the_mean_plus_the_deviation_times_the_images_own_noise() -> None:
    moments = torch.randn(3, 8, 5, 6)
    seeds = torch.tensor([5, 2**62 + 1, 5])
    drawn = draw_latents(moments, seeds)
    noise = gaussian((3, 4, 5, 6), seeds, "vae", torch.device("cpu"))  # what uncached images get
    assert torch.equal(drawn, moments[:, :4] + torch.exp(0.5 * moments[:, 4:]) * noise)
    assert torch.equal(draw_latents(moments[1:2], [2**62 + 1])[0], drawn[1])
    assert torch.isfinite(draw_latents(torch.full((1, 8, 2, 2), 1e4), [1])).all()


def test_draws_differ_from_epoch_to_epoch_unless_the_mean_alone_is_kept(data: FilledData) -> None:
    cache = memory(data)
    first, second = cache.latents(8, 1), cache.latents(8, 2)
    assert not torch.equal(first, second) and torch.equal(first, cache.latents(8, 1))
    means = build(look(data, CacheRules(distribution=False)), encode)
    assert torch.equal(means.latents(8, 1), means.latents(8, 2))
    pixels = TrainingDataset(data, tokenize).image(EpochSampler(data, 7).epoch(0)[0][0])
    assert means.latents(8, 1).shape == first.shape and pixels.shape[0] == 3


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

    memory(data, counting, 3, progress=progress)
    assert sum(seen) == 4 * 2 + 5 == bar.total == bar.done and bar.closed and max(seen) == 3


def test_an_image_in_two_datasets_of_one_size_is_encoded_once(tmp_path: Path) -> None:
    photos(tmp_path / "cat", 3, (64, 64))
    subset = "[[datasets.subsets]]\nimage_dir = '{0}/cat'\nclass_tokens = '{1}'\n"
    text = "[[datasets]]\nresolution = 64\n" + subset + "[[datasets]]\nresolution = 64\nbatch_size = 2\n" + subset
    data = filled(tmp_path, text.format(tmp_path.as_posix(), "cat"))
    seen: list[int] = []
    cache = memory(data, lambda images: seen.append(len(images)) or encode(images))
    assert sum(seen) == 3 and len(data.records) == 6
    assert torch.equal(cache.latents(0, 5), cache.latents(3, 5))


def test_image_without_finite_latents_is_named(data: FilledData) -> None:
    with refused("DATA-019", ".png", "--mixed_precision", "--vae"):
        memory(data, lambda images: encode(images) * torch.nan)


def test_the_largest_images_are_encoded_first(tmp_path: Path) -> None:
    """What does not fit into memory shows at once; the widest are not the largest."""
    for name, size in (("a", (32, 32)), ("b", (160, 32)), ("c", (96, 96)), ("d", (32, 160))):
        photo(tmp_path / f"dog/{name}.png", size)
    text = "[[datasets]]\nresolution = 96\nenable_bucket = true\nbucket_no_upscale = true\nbucket_reso_steps = 32\n"
    data = filled(tmp_path, f"{text}[[datasets.subsets]]\nimage_dir = '{tmp_path / 'dog'}'\nclass_tokens = 'x'\n")
    seen: list[tuple[int, int]] = []
    memory(data, lambda images: seen.append(tuple(images.shape[2:])) or encode(images))
    assert seen[0] == (96, 96) and seen[-1] == (32, 32) and len(seen) == 4


def test_the_next_batch_is_on_its_way_before_the_last_ones_latents_are_waited_for(
    data: FilledData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU is kept busy: it has work while the CPU takes what it has made. (On a CPU the order is the same.)"""
    done: list[str] = []

    class Told(FromDevice):
        def wait(self) -> Tensor:
            done.append("taken")
            return super().wait()

    monkeypatch.setattr(latent_build, "FromDevice", Told)
    cache = build(look(data, CacheRules()), lambda images: done.append("sent") or encode(images), 4)
    assert done[:3] == ["sent", "sent", "taken"] or done[:4] == ["sent", "sent", "sent", "taken"]
    assert done.count("sent") == done.count("taken") and done[-1] == "taken"
    monkeypatch.undo()
    for record in range(len(data.records)):
        assert torch.equal(cache.latents(record, 3), memory(data, batch_size=4).latents(record, 3))


def test_pixels_go_to_a_gpu_from_page_locked_memory_without_a_wait() -> None:
    class Asked:
        locked, ways = False, ()

        def pin_memory(self) -> Asked:
            self.locked = True
            return self

        def to(self, device: torch.device, non_blocking: bool = False) -> tuple[torch.device, bool, bool]:
            return device, self.locked, non_blocking

    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert to_device(Asked(), cuda) == (cuda, True, True)  # type: ignore[arg-type,comparison-overlap]
    assert to_device(Asked(), cpu) == (cpu, False, False)  # type: ignore[arg-type,comparison-overlap]
