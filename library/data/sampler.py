"""The order of an epoch: which images make which batch, and which process takes which, as functions of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from library.data.buckets import FilledData
from library.seeds import fold, python_rng

GlobalBatch = tuple["SampleRequest", ...]


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One showing of one image. `seed` carries every random draw made for it; `weight` multiplies its loss."""

    record: int  # index into FilledData.records
    repeat: int
    epoch: int
    seed: int  # fold(run seed, epoch, record.key, repeat): the same in whatever batch, worker or process
    weight: float
    batch: int  # global batches before this one since the run's start


class EpochSampler:
    """Global batches of batch_size × processes images of one bucket each; every train image × its repeats once an epoch."""

    def __init__(self, filled: FilledData, seed: int, processes: int = 1) -> None:
        assert processes >= 1
        self.filled, self.seed, self.processes = filled, seed, processes

    @property
    def batches_per_epoch(self) -> int:
        """Σ over buckets of ⌈images / (batch_size × processes)⌉."""
        return sum(-(-bucket.count // self._batch_size(bucket.dataset)) for bucket in self.filled.buckets)

    def epoch(self, n: int, start: int = 0) -> Sequence[GlobalBatch]:
        """The global batches of epoch `n` (from 0), without the first `start` ones."""
        batches: list[list[tuple[int, int]]] = []
        for bucket in self.filled.buckets:
            entries = list(bucket.entries(n))
            python_rng(self.seed, "bucket", n, bucket.dataset, *bucket.size).shuffle(entries)
            size = self._batch_size(bucket.dataset)
            batches += [entries[begin : begin + size] for begin in range(0, len(entries), size)]
        python_rng(self.seed, "batches", n).shuffle(batches)
        first = n * len(batches)
        return [
            tuple(self._request(record, repeat, n, first + number) for record, repeat in batch)
            for number, batch in enumerate(batches[start:], start=start)
        ]

    def share(self, batch: GlobalBatch, process: int) -> GlobalBatch:
        """The images of a global batch that `process` takes.

        Their weights are scaled by len(share)·processes/len(batch), so that the mean of loss·weight over the share, averaged over
        processes, is the mean over the global batch. A process for which nothing is left takes one image with weight 0.
        """
        mine = batch[process :: self.processes]
        if not mine:
            return (replace(batch[0], weight=0.0),)
        scale = len(mine) * self.processes / len(batch)
        return mine if scale == 1 else tuple(replace(request, weight=request.weight * scale) for request in mine)

    def _batch_size(self, dataset: int) -> int:
        return self.filled.blueprint.datasets[dataset].options.batch_size * self.processes

    def _request(self, record: int, repeat: int, epoch: int, batch: int) -> SampleRequest:
        seed = fold(self.seed, epoch, self.filled.records[record].key, repeat)
        return SampleRequest(record, repeat, epoch, seed, self.filled.weight(record), batch)
