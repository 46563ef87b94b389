"""What the tests of latents on disk share: two folders of images, a VAE that counts, and files as other programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from library.data.batching.buckets import FilledData
from library.data.pixels.latent_build import build, look
from library.data.pixels.latent_cache import LatentCache
from library.data.pixels.latent_files import cache_file
from library.data.pixels.latent_plan import CacheRules
from tests.data.material import encode, filled

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
    """Four images of a dog and five of a cat in `folder`, in buckets around `resolution`; `flip` mirrors the dogs."""
    return filled(folder, CONFIG.format(folder.as_posix(), resolution, str(flip).lower()))


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
    """Three draws of every image, in one row."""
    return torch.cat([cache.latents(index, seed).flatten() for index in range(len(data.records)) for seed in (1, 2, 3)])


def foreign(folder: Path, name: str, size: tuple[int, int] = (8, 8), **more: object) -> np.ndarray:
    """A file of another program beside the images, with latents of `size`; `more` takes the place of what it says. Returns the latents."""
    latents = np.random.default_rng(3).normal(size=(4, size[1], size[0])).astype(np.float32)
    np.savez(folder / name, **{"latents": latents, "original_size": np.array([64, 70]), "crop_ltrb": np.array([0, 0, 64, 64]), **more})
    return latents
