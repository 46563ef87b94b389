"""Loads batches in the sampler's order; the workers are stateless, so their number affects only the speed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

import torch
from torch.utils.data import DataLoader, Dataset

from library.data.batching.sampler import EpochSampler, GlobalBatch, by_update
from library.data.loading.batch import Batch
from library.data.loading.custom_batches import CustomBatchDataset
from library.data.loading.dataset import TrainingDataset
from library.data.loading.worker_faults import death, quiet_deaths, shared
from library.errors import Problem, UserError
from library.telling.streams import install

MOST_WORKERS = 8
SECONDS_AFTER_SIGTERM = 10.0


def worker_count(asked: int | None = None) -> int:
    """Number of loader workers to start: `asked` (default 8), at most CPU threads − 1; 0 loads in the main process."""
    return max(0, min(MOST_WORKERS if asked is None else asked, (os.cpu_count() or 1) - 1))


@dataclass(frozen=True)
class Workers:
    """How batches are loaded: `count` is the number of worker processes, 0 for none.

    With `persistent` they stay alive between epochs, which helps where starting them is slow (Windows). `context` is the start method
    ('spawn', 'fork'); None is the system's default.
    """

    count: int = 0
    persistent: bool = False
    pin_memory: bool = False
    context: str | None = None


class EpochLoader:
    """Loads the batches of one process, epoch by epoch."""

    def __init__(
        self,
        dataset: TrainingDataset | CustomBatchDataset,
        sampler: EpochSampler,
        process: int = 0,
        workers: Workers = Workers(),
        batches_per_update: int = 1,
    ) -> None:
        """Weights are scaled so that all images of an update count the same."""
        self._shares = _Shares(sampler, process, batches_per_update)
        self._processes: list[BaseProcess] = []  # the workers that this loader has started
        self._loader = DataLoader(
            _Telling(dataset),
            batch_size=None,
            sampler=self._shares,
            num_workers=workers.count,
            persistent_workers=workers.persistent and workers.count > 0,
            pin_memory=workers.pin_memory,
            multiprocessing_context=workers.context if workers.count else None,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # a separate generator, so that loading does not advance the process's random state
        )

    def epoch(self, n: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `n` for this process, without the first `start`. Raises UserError if a worker cannot load one."""
        self._shares.epoch, self._shares.start = n, start
        try:
            for item in self._started():
                if isinstance(item, _Fault):
                    raise UserError(*item.problems)
                yield item
        except Exception as fault:
            problem = None if isinstance(fault, UserError) else death(fault, self._processes, self._loader.num_workers)
            if problem is None:
                raise
            raise UserError(problem) from fault

    def _started(self) -> Iterator[Batch | _Fault]:
        """The loader's iterator, whose workers are running; persistent ones are those of the first epoch."""
        before = set(multiprocessing.active_children())
        with quiet_deaths():
            batches = iter(self._loader)
        self._processes = [process for process in multiprocessing.active_children() if process not in before] or self._processes
        return batches


class _Shares:
    """Sampler for DataLoader: the shares of one process for the current epoch."""

    def __init__(self, sampler: EpochSampler, process: int, batches_per_update: int) -> None:
        self.sampler, self.process, self.batches_per_update = sampler, process, batches_per_update
        self.epoch = self.start = 0

    def __iter__(self) -> Iterator[GlobalBatch]:
        batches = by_update(self.sampler.epoch(self.epoch, self.start), self.batches_per_update, self.sampler.seed)
        return (self.sampler.share(batch, self.process) for batch in batches)

    def __len__(self) -> int:
        return self.sampler.length(self.epoch) - self.start


class _Fault:
    """A user error returned by a worker as a value: DataLoader would add the worker's traceback to an exception."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems


class _Telling(Dataset["Batch | _Fault"]):
    """The dataset, with user errors returned as values."""

    def __init__(self, dataset: TrainingDataset | CustomBatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, share: GlobalBatch) -> Batch | _Fault:
        try:
            return shared(self.dataset[share])
        except UserError as fault:
            return _Fault(fault.problems)


def _start_worker(worker: int) -> None:
    """Set up a worker: one thread each, since the workers are the parallelism, and signals ignored, since the main process ends them.

    Ctrl-C in a console, closing it, and SIGTERM from many job systems reach every process. A worker that died of it would take the current
    update with it, which the main process wants to finish. So a worker survives SIGTERM by a few seconds.
    """
    import cv2

    cv2.setNumThreads(0)
    install()  # a spawned process has its own outputs, on which a --dataset_class may print
    for name in ("SIGINT", "SIGBREAK", "SIGHUP"):  # SIGBREAK is Ctrl-Break on Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(number: int, frame: object) -> None:
    timer = threading.Timer(SECONDS_AFTER_SIGTERM, os._exit, (0,))
    timer.daemon = True
    timer.start()
