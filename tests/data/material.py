"""Small images, configs and stand-ins for the tokenizer and the VAE; all picklable, so that spawned workers take them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from library.data.batching.buckets import FilledData, fill
from library.data.batching.sampler import EpochSampler
from library.data.config.blueprint import DatasetBlueprint
from library.data.config.build import read_config
from library.data.loading.batch import Batch
from library.data.loading.dataset import TrainingDataset
from library.data.loading.loader import EpochLoader, Workers
from library.data.scan.records import scan

BOTH = frozenset({"dreambooth", "metadata"})


def photo(path: Path, size: tuple[int, int] = (96, 64), seed: int = 0) -> Path:
    """A smooth picture with noise on it, so that shifts, flips and sizes show."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([x, y, (x + y) / 2], axis=2) * 0.8 + rng.uniform(0, 50, (size[1], size[0], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def photos(folder: Path, count: int, size: tuple[int, int] = (96, 64), ending: str = ".png") -> list[Path]:
    return [photo(folder / f"{n:02}{ending}", size, seed=n) for n in range(count)]


def config(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path, text: str, defaults: dict[str, object] | None = None, forms: frozenset[str] = BOTH) -> DatasetBlueprint:
    return read_config(config(folder / "set.toml", text), defaults or {}, forms)


def filled(folder: Path, text: str, prior_loss_weight: float = 1.0) -> FilledData:
    return fill(scan(read(folder, text)), prior_loss_weight)


def tokenize(caption: str) -> tuple[Tensor, None]:
    """One window of 77 numbers that depend on the text."""
    return torch.tensor([list(caption.encode()[:77].ljust(77, b"\0"))]), None


def tokenize_weighted(caption: str) -> tuple[Tensor, Tensor]:
    ids, _ = tokenize(caption)
    return ids, torch.full(ids.shape, 1.1)


def shout(caption: str, rng: random.Random) -> str:
    return caption.upper() + rng.choice("!?")


def encode(images: Tensor) -> Tensor:
    """[B,3,H,W] -> [B,8,H/8,W/8]: four channels of means, four of log variances."""
    small = torch.nn.functional.avg_pool2d(images, 8)
    return torch.cat([small, small[:, :1], small - 3, small[:, :1] - 3], dim=1)


def one_epoch(dataset: TrainingDataset, sampler: EpochSampler, epoch: int, process: int = 0, workers: int = 0) -> Iterator[Batch]:
    """The batches of a single epoch, from a loader of its own."""
    return EpochLoader(dataset, sampler, process, Workers(workers)).epoch(epoch)
