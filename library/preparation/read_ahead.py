"""Loads images in threads while a model processes earlier ones, in order and with bounded memory; continues after errors."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from library.data.scan.image_headers import reason_of as image_reason
from library.errors import Problem, UserError, coded

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """One file and its loaded value, or why loading failed: the reason alone, without the file's name, and its code."""

    path: Path
    value: T | None
    fault: Problem | None


def workers_of(wanted: int | None) -> int:
    """Number of threads: `wanted`, or one per processor, at most 8."""
    return min(8, os.cpu_count() or 1) if wanted is None else wanted


def read_ahead(paths: Sequence[Path], load: Callable[[Path], T], batch_size: int, workers: int) -> Iterator[list[Loaded[T]]]:
    """Batches of `batch_size` paths in their order, each loaded by one of `workers` threads (0: by the caller, without reading ahead).

    While the caller processes one batch, the next one is loaded; no more than that is in memory.
    """
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    if workers == 0:
        for batch in batches:
            yield [_loaded(path, load) for path in batch]
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="read-ahead") as pool:
        waiting: deque[list[Future[Loaded[T]]]] = deque()
        try:
            for batch in batches:
                waiting.append([pool.submit(_loaded, path, load) for path in batch])
                # With small batches, several have to be loading to keep all threads busy.
                if len(waiting) > max(1, -(-workers // batch_size)):
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            for future in (future for batch in waiting for future in batch):
                future.cancel()


def _loaded(path: Path, load: Callable[[Path], Any]) -> Loaded[Any]:
    try:
        return Loaded(path, load(path), None)
    except Exception as fault:  # PIL and OpenCV raise many kinds of exceptions for damaged files
        return Loaded(path, None, reason_of(fault))


def reason_of(fault: Exception) -> Problem:
    """A short reason, on one line, why an image could not be loaded; a UserError keeps its code."""
    if isinstance(fault, UserError):
        return fault.problems[0].reworded("; ".join(fault.problems))
    if isinstance(fault, OSError) and fault.errno:
        return coded("DATA-001", f"cannot be opened ({fault.strerror})")
    return coded("DATA-001", " ".join(image_reason(fault).split()))
