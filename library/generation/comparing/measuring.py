"""Measures the validation loss of a model with its current networks, always with the same noise and timesteps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from library.caption_rewriting import keep_caption
from library.data.batching.buckets import FilledData
from library.data.loading.batch import Batch
from library.generation.drawing import Manner, Studio
from library.options.groups.diffusion import DiffusionOptions
from library.training.samples.samples import untouched_random_state
from library.training.step.noise_and_loss import noise_settings, objective_of, schedule_of
from library.training.step.task import DiffusionTask, NoiseAndLoss
from library.training.validation.measure import ROUNDS, Validation

if TYPE_CHECKING:
    from library.method import Method


@dataclass
class _Alone:
    """A single process with all images."""

    device: torch.device
    num_processes: int = 1
    process_index: int = 0


class _Untrained:
    """A method that adds nothing, to measure the model as it is."""

    def modules(self) -> list[nn.Module]:
        return []


class Measure:
    """The images as latents, encoded once; `losses` measures each with the networks now on the model."""

    def __init__(self, studio: Studio, data: FilledData, seed: int) -> None:
        self._manner: Manner = studio.manner
        model, device = studio.model, studio.manner.device
        home = model.vae.device
        model.vae.to(device)
        try:
            with torch.autocast(device.type, enabled=False):
                validation = Validation.prepare(data, seed, None, model, keep_caption, _as_it_is, _Alone(device), 0)
        finally:
            model.vae.to(home)
        self._batches = validation.batches
        options = replace(DiffusionOptions(), zero_terminal_snr=model.zero_terminal_snr)
        schedule = schedule_of(options, device)
        objective = objective_of(options, schedule, model.prediction)
        timesteps = range(options.min_timestep, options.max_timestep)
        noise_and_loss = NoiseAndLoss(schedule, objective, noise_settings(options), timesteps)
        self._task = DiffusionTask(model, cast("Method", _Untrained()), noise_and_loss, studio.manner.clip_skip)

    def losses(self) -> list[float]:
        """Return the loss of each image, the mean over `ROUNDS` timesteps."""
        measured: list[float] = []
        self._task.eval()
        with untouched_random_state(self._manner.device), self._manner.autocast():
            for batch in self._batches:
                losses = self._task.evaluate(batch.to(self._manner.device), ROUNDS).double().cpu()
                measured += losses[batch.loss_weights > 0].tolist()
        return measured


def _as_it_is(batch: Batch) -> Batch:
    return batch
