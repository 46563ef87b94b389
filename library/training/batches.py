"""The batches of a run: formed by the sampler, loaded by workers, with unreadable images recorded."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate.utils import gather_object

from library.console import log
from library.data.batching.sampler import EpochSampler
from library.data.loading.batch import Batch
from library.data.loading.custom_batches import counted_by_images
from library.data.loading.loader import EpochLoader, Workers, worker_count
from library.data.pixels.latent_cache import LatentCache
from library.model.bundle import StableDiffusion
from library.model.text.tokenizer import without_padding
from library.options.groups.scripts import FullModelScript, TrainingScript
from library.training.processes import Processes
from library.training.run_context import RunStart
from library.training.unreadable import UnreadableImages

READERS = 2  # loader workers that read cached latents


@dataclass(frozen=True)
class Feed:
    """The batches that the loop trains on, on this process."""

    loader: EpochLoader
    sampler: EpochSampler
    adapt: Callable[[Batch], Batch]
    unreadable: UnreadableImages  # including those that appear during training
    counted: Callable[[Iterable[Batch]], Iterable[Batch]]  # the same batches, with equal weight for each image of an update

    @classmethod
    def create(cls, run: RunStart, model: StableDiffusion, cache: LatentCache | None) -> Feed:
        """Build batches of latents if `cache` has them, otherwise of images."""
        unreadable = UnreadableImages(cache.unreadable if cache else ())
        sampler = run.inputs.sampler(run.state.seed)
        sampler.leave_out(run.state.left_out)
        loader, mean = _loader(run, model, sampler, cache), partial(_mean, run.accelerator)
        counted = partial(counted_by_images, per_update=run.inputs.plan.accumulation, mean_over_processes=mean)
        return cls(loader, sampler, adapter(run.options), unreadable, counted)

    def batches(self, epoch: int, start: int) -> Iterable[Batch]:
        """Yield the batches of `epoch` from batch `start` on."""
        read = map(self.adapt, map(self.unreadable.noted, self.loader.epoch(epoch, start)))
        return self.counted(read)

    def length(self, epoch: int) -> int:
        """Return the number of batches of `epoch`."""
        return self.sampler.length(epoch)


def _mean(processes: Processes, number: int) -> float:
    """Return the mean over all processes; all must call it together."""
    if processes.num_processes == 1:
        return number
    return float(processes.reduce(torch.tensor(float(number), device=processes.device), "mean"))


def _loader(run: RunStart, model: StableDiffusion, sampler: EpochSampler, cache: LatentCache | None) -> EpochLoader:
    plan, data = run.inputs.plan, run.options.data
    source, workers = run.inputs.source, worker_count(data.max_data_loader_n_workers)
    source.check_loading(workers, gather_object if run.accelerator.num_processes > 1 else list)
    dataset = source.dataset(run.state.seed, model.tokenizer, model.scale_factor, run.method.rewrite_caption, plan, cache)
    if cache is not None and not model.inpaints:  # nothing to decode, at most to read
        workers = 0 if cache.in_memory else min(workers, READERS)
    if workers and isinstance(run.options, FullModelScript) and copies_weights(run.device):
        log.info("images are read in the main process: on a CPU, a loader worker would take as much memory as the model and its optimizer")
        workers = 0
    pinned = run.device.type == "cuda"
    ways = Workers(workers, data.persistent_data_loader_workers, pinned)
    return EpochLoader(dataset, sampler, run.accelerator.process_index, ways, plan.accumulation)


def copies_weights(device: torch.device) -> bool:
    """Whether a loader worker ends up with a copy of what is trained: a forked one shares it until each update changes it."""
    return device.type == "cpu" and multiprocessing.get_start_method() == "fork"


def adapter(options: TrainingScript) -> Callable[[Batch], Batch]:
    """Return what the options do to a batch before training: `--no_token_padding` removes the padding of captions."""
    return _as_it_is if options.pads_captions else _unpadded


def _unpadded(batch: Batch) -> Batch:
    input_ids, token_weights = without_padding(batch.input_ids, batch.token_weights)
    return replace(batch, input_ids=input_ids, token_weights=token_weights)


def _as_it_is(batch: Batch) -> Batch:
    return batch
