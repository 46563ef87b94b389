"""The loss on images that are not trained on, with fixed noise and timesteps, and without side effects on training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import nn

from library.data.batching.buckets import FilledData
from library.data.batching.sampler import EpochSampler
from library.data.loading.batch import Batch
from library.data.loading.dataset import TrainingDataset
from library.data.loading.loader import EpochLoader, Workers
from library.data.pixels.latent_cache import draw_latents
from library.model.bundle import StableDiffusion
from library.model.drawing.generate import evaluating
from library.seeds import fold
from library.training.known_region import known_of
from library.training.processes import Processes
from library.training.samples.samples import untouched_random_state

if TYPE_CHECKING:
    from library.training.step.task import DiffusionTask

ROUNDS = 4  # timesteps per image


class Share(Protocol):
    """This process's share of the images, and its device."""

    @property
    def num_processes(self) -> int:
        """Number of processes that share the images."""

    @property
    def process_index(self) -> int:
        """Index of this process, from 0."""

    @property
    def device(self) -> torch.device:
        """Device of this process."""


class Validation:
    """This process's share of the images, as latents and token ids on the CPU; `measure` returns the loss over all processes."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches = list(batches)

    @classmethod
    def prepare(
        cls,
        data: FilledData,
        seed: int,
        max_batches: int | None,
        model: StableDiffusion,
        rewrite_caption: Callable[..., str],
        adapt: Callable[[Batch], Batch],
        accelerator: Share,
        workers: int,
    ) -> Validation:
        """Load and encode the images once: crops, captions and noise never change.

        The VAE must be on the accelerator's device. `adapt` is what training does to its batches (captions without padding).
        """
        dataset = TrainingDataset(data, model.tokenizer, rewrite_caption)
        sampler = EpochSampler(data, fold(seed, "validation"), accelerator.num_processes)
        loader = EpochLoader(dataset, sampler, accelerator.process_index, Workers(workers))
        batches = []
        with untouched_random_state(accelerator.device):
            for batch in islice(loader.epoch(0), max_batches):
                images = batch.to(accelerator.device)
                assert images.images is not None, "a dataset without a cache loads images"
                latents = draw_latents(model.moments(images.images), batch.seeds).float().cpu()
                known = known_of(model, images)
                known = None if known is None else known.cpu()
                batches.append(adapt(replace(batch, images=None, latents=latents, fill_masks=None, known=known)))
        return cls(batches)

    def measure(self, accelerator: Processes, task: nn.Module) -> float:
        """Return the mean loss over all images and `ROUNDS` timesteps of each. Every process must call it; all get the same value.

        Module modes and random state are restored. `task` is the DiffusionTask, prepared or not.
        """
        bare = cast("DiffusionTask", accelerator.unwrap_model(task))  # a compiled task has another class
        sums = torch.zeros(2, dtype=torch.float64)
        with evaluating(bare), untouched_random_state(accelerator.device), accelerator.autocast():
            for batch in self.batches:
                losses = bare.evaluate(batch.to(accelerator.device), ROUNDS).double().cpu()
                counted = (batch.loss_weights > 0).double()  # weight 0: only fills up the batch, the image is another process's
                sums += torch.stack([(losses * counted).sum(), counted.sum()])
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums.to(accelerator.device), "sum").cpu()
        return float(sums[0] / sums[1])
