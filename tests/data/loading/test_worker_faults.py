"""Loader workers that die, and batches for which shared memory has no room: one line, and no wait without end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from library.data.batching.buckets import FilledData
from library.data.batching.sampler import EpochSampler, GlobalBatch
from library.data.loading.batch import Batch
from library.data.loading.dataset import TrainingDataset
from library.data.loading.loader import EpochLoader, Workers
from tests.data.material import filled, one_epoch, photos, tokenize
from tests.messages import refused
from tests.paths.wrong_places import in_time

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, signals")
OPTION = "--max_data_loader_n_workers"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilledData:
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))  # seconds; 5 in runs
    photos(tmp_path / "cat", 6, (64, 64))
    subset = f"[[datasets.subsets]]\nimage_dir = '{tmp_path / 'cat'}'\nclass_tokens = 'cat'\n"
    return filled(tmp_path, f"[[datasets]]\nresolution = 64\n{subset}")


class Doing(TrainingDataset):
    """Does something in the worker before it loads a batch."""

    def __init__(self, data: FilledData, act: Callable[[], object]) -> None:
        super().__init__(data, tokenize)
        self.act = act

    def __getitem__(self, share: GlobalBatch) -> Batch:
        self.act()
        return super().__getitem__(share)


def batches(data: FilledData, act: Callable[[], object], workers: int = 2) -> list[Batch]:
    with in_time():
        return list(EpochLoader(Doing(data, act), EpochSampler(data, 7), 0, Workers(workers, context="fork")).epoch(0))


def ends_with(number: int) -> Callable[[], object]:
    def act() -> None:
        signal.signal(number, signal.SIG_DFL)  # without the line that torch itself would print
        os.kill(os.getpid(), number)

    return act


def test_a_worker_that_the_system_killed_is_told_with_the_option_that_needs_less_memory(data: FilledData) -> None:
    with refused("DATA-024", OPTION, "killed", "memory", "now 2"):
        batches(data, lambda: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.parametrize(("act", "name"), [(ends_with(signal.SIGABRT), "SIGABRT"), (lambda: os._exit(3), "exit code 3")])
def test_a_worker_that_ends_by_itself_is_told_with_what_it_died_of(data: FilledData, act: Callable[[], object], name: str) -> None:
    with refused("DATA-024", OPTION, name, "now 2"):
        batches(data, act)


def test_a_worker_that_dies_meanwhile_interrupts_nothing_and_is_told_when_its_batch_is_missing(data: FilledData) -> None:
    """torch would raise an error wherever the main process is at that moment."""
    loading = one_epoch(TrainingDataset(data, tokenize), EpochSampler(data, 7), 0, workers=1)
    before = set(multiprocessing.active_children())
    assert len(next(loading)) == 1
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.2)  # in which the system says that it has died
    with refused("DATA-024", OPTION, "killed", "now 1"), in_time():
        list(loading)


def limit_files() -> None:
    """No file grows beyond 4 KiB, and none in shared memory either."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_batches_that_do_not_fit_into_shared_memory_are_told_instead_of_awaited(data: FilledData) -> None:
    with refused("DATA-029", OPTION, "shared memory", "File too large", "/dev/shm", "now 2"):
        batches(data, limit_files)


def test_a_worker_that_meets_the_end_of_shared_memory_is_told_with_it(data: FilledData) -> None:
    with refused("DATA-029", OPTION, "SIGBUS", "/dev/shm", "--shm-size"):
        batches(data, ends_with(signal.SIGBUS))
