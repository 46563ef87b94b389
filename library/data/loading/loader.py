"""Batches in the sampler's order, made by workers that hold no state, so that their number changes nothing but the speed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from library.data.batching.sampler import EpochSampler, GlobalBatch, by_update
from library.data.loading.batch import Batch
from library.data.loading.custom_batches import CustomBatchDataset
from library.data.loading.dataset import TrainingDataset
from library.errors import Problem, UserError, coded
from library.telling.streams import install

MOST_WORKERS = 8
SECONDS_AFTER_SIGTERM = 10.0


def worker_count(asked: int | None = None) -> int:
    """How many loader workers to start: `asked` (8 when not given), at most CPU threads − 1; 0 loads in the main process."""
    return max(0, min(MOST_WORKERS if asked is None else asked, (os.cpu_count() or 1) - 1))


@dataclass(frozen=True)
class Workers:
    """How batches are loaded: `count` processes beside this one, 0 for none.

    With `persistent` they live on between epochs (a gain where starting them is slow: Windows). `context` is how they start ('spawn',
    'fork'); None is the system's own way.
    """

    count: int = 0
    persistent: bool = False
    pin_memory: bool = False
    context: str | None = None


class EpochLoader:
    """Loads epoch after epoch."""

    def __init__(
        self,
        dataset: TrainingDataset | CustomBatchDataset,
        sampler: EpochSampler,
        process: int = 0,
        workers: Workers = Workers(),
        batches_per_update: int = 1,
    ) -> None:
        """Images of one update count the same."""
        self._shares = _Shares(sampler, process, batches_per_update)
        self._loader = DataLoader(
            _Telling(dataset),
            batch_size=None,
            sampler=self._shares,
            num_workers=workers.count,
            persistent_workers=workers.persistent and workers.count > 0,
            pin_memory=workers.pin_memory,
            multiprocessing_context=workers.context if workers.count else None,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # its own, so that loading draws nothing from the process's stream
        )

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `n` for this process, without the first `start` ones; what a worker could not load raises UserError."""
        self._shares.epoch, self._shares.start = n, start
        try:
            for item in self._loader:
                if isinstance(item, _Fault):
                    raise UserError(*item.problems)
                yield item
        except RuntimeError as fault:
            if "DataLoader worker" not in str(fault):
                raise
            raise UserError(
                coded(
                    "DATA-024",
                    "the system killed a loader worker, most likely because memory ran out;"
                    f" lower --max_data_loader_n_workers (now {self._loader.num_workers})",
                )
            ) from fault


class _Shares:
    """The sampler as DataLoader wants it: shares of one process for the epoch that is set."""

    def __init__(self, sampler: EpochSampler, process: int, batches_per_update: int) -> None:
        self.sampler, self.process, self.batches_per_update = sampler, process, batches_per_update
        self.epoch = self.start = 0

    def __iter__(self) -> Iterator[GlobalBatch]:
        batches = by_update(self.sampler.epoch(self.epoch, self.start), self.batches_per_update, self.sampler.seed)
        return (self.sampler.share(batch, self.process) for batch in batches)

    def __len__(self) -> int:
        return self.sampler.length(self.epoch) - self.start


class _Fault:
    """A user fault on its way out of a worker: DataLoader would dress up an exception with the worker's traceback."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems


class _Telling(Dataset["Batch | _Fault"]):
    """The dataset, with user faults as values."""

    def __init__(self, dataset: TrainingDataset | CustomBatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, share: GlobalBatch) -> Batch | _Fault:
        try:
            return self.dataset[share]
        except UserError as fault:
            return _Fault(fault.problems)


def _start_worker(worker: int) -> None:
    """One thread a worker: the workers themselves are the parallelism. Signals are the main process's affair: it ends the workers.

    Ctrl-C in a console, its end, and SIGTERM from many a job system reach every process; a worker that died of it would take the update
    under way with it, which the main process wants to finish. So a worker outlives SIGTERM by a while.
    """
    import cv2

    cv2.setNumThreads(0)
    install()  # a process that was started afresh has outputs of its own, on which a --dataset_class may print
    for name in ("SIGINT", "SIGBREAK", "SIGHUP"):  # SIGBREAK is Ctrl-Break on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(number: int, frame: object) -> None:
    timer = threading.Timer(SECONDS_AFTER_SIGTERM, os._exit, (0,))
    timer.daemon = True
    timer.start()
