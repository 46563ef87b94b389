"""Order of an epoch: assigns images to batches and batches to processes, as functions of (seed, epoch) alone."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

from library.data.batching.buckets import FilledData
from library.data.batching.showings import Bucket, Entry, numbers
from library.errors import UserError, coded
from library.seeds import fold, python_rng

GlobalBatch = tuple["SampleRequest", ...]


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One showing of one image. `seed` determines all its random choices; `weight` multiplies its loss."""

    record: int  # index into FilledData.records
    repeat: int
    epoch: int
    seed: int  # fold(run seed, epoch, record.key, repeat): independent of batch, worker and process
    weight: float
    batch: int  # number of global batches before this one since the start of the run
    stratum: tuple[int, int] | None = None  # (random index among the images of its update, number of these images)


@dataclass(frozen=True)
class Cut:
    """Part of an epoch that was trained with other batch sizes; `sizes` are images per global batch, by dataset."""

    sizes: tuple[int, ...]
    batches: int  # finished before the sizes changed


@dataclass(frozen=True)
class Begun:
    """A partly trained epoch whose first images were trained with other batch sizes."""

    epoch: int
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class _Order:
    """An epoch divided into batches, stored in 4 bytes per showing and 4 per batch.

    `due`: shuffled numbers of the showings, by bucket. `sizes`: images per batch, by bucket. `begins`: number of each bucket's first batch.
    `order`: batch numbers in training order.
    """

    due: list[array[int]]
    sizes: list[int]
    begins: tuple[int, ...]
    order: array[int]

    def showings(self, batch: int) -> tuple[int, array[int]]:
        """The bucket index of a batch, and the numbers of its showings."""
        place = bisect.bisect_right(self.begins, batch) - 1
        size = self.sizes[place]
        first = (batch - self.begins[place]) * size
        return place, self.due[place][first : first + size]


class _Epoch(Sequence[GlobalBatch]):
    """The batches of an epoch, built on access: all showings at once would take more memory than the images."""

    def __init__(self, sampler: EpochSampler, epoch: int, order: _Order, first: int, places: range) -> None:
        """`first`: number of batches of the run before this epoch; `places`: the indices into `order` to show."""
        self._sampler, self._epoch, self._order, self._first, self._places = sampler, epoch, order, first, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> GlobalBatch: ...

    @overload
    def __getitem__(self, index: slice) -> _Epoch: ...

    def __getitem__(self, index: int | slice) -> GlobalBatch | _Epoch:
        if isinstance(index, slice):
            return _Epoch(self._sampler, self._epoch, self._order, self._first, self._places[index])
        place = self._places[index]
        return self._sampler.batch_of(self._epoch, self._order, place, self._first + place)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # the way Python marks a type as unhashable


def by_update(batches: Sequence[GlobalBatch], size: int, seed: int = 0) -> Iterator[GlobalBatch]:
    """Yield `batches` in the same order, reweighted so that each image of an update counts the same, whichever batch it is in.

    An update has `size` batches (the last one may have fewer). The mean over its batches of the mean over their images becomes the
    mean
    over all its images. Each request also gets its stratum within the update; `seed` is the run's seed.
    """
    for begin in range(0, len(batches), size):
        update = list(batches[begin : begin + size])
        images = sum(map(len, update))
        strata = list(range(images))
        python_rng(seed, "strata", update[0][0].batch).shuffle(strata)
        places = iter(strata)
        for batch in update:
            scale = len(batch) * len(update) / images
            yield tuple(replace(request, weight=request.weight * scale, stratum=(next(places), images)) for request in batch)


def _scaled(batch: GlobalBatch, scale: float) -> GlobalBatch:
    return batch if scale == 1 else tuple(replace(request, weight=request.weight * scale) for request in batch)


class EpochSampler:
    """Global batches of batch_size × processes images of one bucket each; an epoch shows every train image × its repeats.

    A run that resumes inside an epoch with other batch sizes passes the epoch's earlier cuts: only its images that are still due are
    divided
    into batches again.
    """

    def __init__(self, filled: FilledData, seed: int, processes: int = 1, begun: Begun | None = None) -> None:
        assert processes >= 1
        self.filled, self.seed, self.processes, self.begun = filled, seed, processes, begun
        self._gone: frozenset[int] = frozenset()

    def leave_out(self, keys: Collection[str]) -> None:
        """Stop showing the images of these record keys; other images of the same size replace them.

        Batches, epochs and updates keep their length. Raises UserError if no image is left.
        """
        gone = frozenset(index for index, record in enumerate(self.filled.records) if record.key in keys)
        if all(record in gone for bucket in self.filled.buckets for record, _ in bucket.train):
            raise UserError(coded("DATA-012", "every image is excluded from training; nothing is left to train"))
        self._gone = gone

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images per global batch, by dataset."""
        return tuple(self._batch_size(number) for number in range(len(self.filled.blueprint.datasets)))

    def length(self, n: int) -> int:
        """Number of batches in epoch `n`: `batches_per_epoch`, except for an epoch that was started with other batch sizes."""
        return len(self._order(n).order) if self._cuts(n) else self.batches_per_epoch

    @property
    def batches_per_epoch(self) -> int:
        """Σ over buckets of ⌈images / (batch_size × processes)⌉."""
        return sum(-(-bucket.count // self._batch_size(bucket.dataset)) for bucket in self.filled.buckets)

    def epoch(self, n: int, start: int = 0) -> Sequence[GlobalBatch]:
        """The global batches of epoch `n` (from 0) without the first `start`; each batch is built on access."""
        order = self._order(n)
        return _Epoch(self, n, order, (n + 1) * self.batches_per_epoch - len(order.order), range(start, len(order.order)))

    def _cuts(self, n: int) -> tuple[Cut, ...]:
        return self.begun.cuts if self.begun is not None and self.begun.epoch == n else ()

    def _order(self, n: int) -> _Order:
        """The batches of epoch `n` in training order, without those finished before earlier changes of the batch sizes."""
        due = []
        for bucket in self.filled.buckets:
            showings = numbers(bucket.count)
            python_rng(self.seed, "bucket", n, bucket.dataset, *bucket.size).shuffle(showings)
            due.append(showings)
        cuts = self._cuts(n)
        for number, cut in enumerate(cuts):
            begun = self._cut(due, cut.sizes, n, number)
            due = [array("I") for _ in due]
            for batch in sorted(begun.order[cut.batches :]):  # back in the order of their bucket
                place, showings = begun.showings(batch)
                due[place].extend(showings)
        return self._cut(due, self.sizes, n, len(cuts))

    def _cut(self, due: list[array[int]], sizes: Sequence[int], n: int, number: int) -> _Order:
        """Divide the showings of each bucket into batches and shuffle the batches; `number` is the index of the cut within the epoch."""
        of_bucket = [sizes[bucket.dataset] for bucket in self.filled.buckets]
        begins = (0, *itertools.accumulate(-(-len(showings) // size) for showings, size in zip(due, of_bucket, strict=True)))
        order = numbers(begins[-1])
        python_rng(self.seed, "batches", n, *([number] if number else [])).shuffle(order)
        return _Order(due, of_bucket, begins, order)

    def share(self, batch: GlobalBatch, process: int) -> GlobalBatch:
        """The images of a global batch that `process` trains.

        Their weights are scaled by len(share)·processes/len(batch), so that the mean of loss·weight over the share, averaged over
        processes, is the mean over the global batch. A process without images gets one image with weight 0.
        """
        mine = batch[process :: self.processes]
        if not mine:
            return (replace(batch[0], weight=0.0),)
        return _scaled(mine, len(mine) * self.processes / len(batch))

    def batch_of(self, n: int, order: _Order, place: int, number: int) -> GlobalBatch:
        """The batch at `place` in the order of epoch `n`; `number` is its index in the run."""
        bucket, showings = order.showings(order.order[place])
        entries = [self.filled.buckets[bucket].entry(n, showing) for showing in showings]
        return tuple(self._request(record, repeat, n, number) for record, repeat in self._present(entries, n))

    def _present(self, batch: list[Entry], n: int) -> list[Entry]:
        """The batch with excluded images replaced; all are replaced by images of another size if no image of this size is left."""
        if not any(record in self._gone for record, _ in batch):
            return batch
        record = self.filled.records[batch[0][0]]
        size = self.filled.placements[batch[0][0]].bucket
        buckets = [bucket for bucket in self.filled.buckets if (bucket.dataset, bucket.size) == (record.dataset, size)]
        left = self._left(buckets)
        whole = not left
        if whole:
            rng = python_rng(self.seed, "replacement bucket", n, *map(str, batch))
            left = self._left([rng.choice([bucket for bucket in self.filled.buckets if self._left([bucket])])])
        return [entry if entry[0] not in self._gone and not whole else self._stand_in(entry, left, n) for entry in batch]

    def _left(self, buckets: Sequence[Bucket]) -> list[int]:
        shown = {index for bucket in buckets for index in (*(record for record, _ in bucket.train), *bucket.pool.distinct())}
        return sorted(shown - self._gone)

    def _stand_in(self, entry: Entry, left: list[int], n: int) -> Entry:
        """A random image of `left`, of the same kind (train or regularization) if possible.

        It gets a separate repeat number so that its random choices differ.
        """
        (index, repeat), records = entry, self.filled.records
        alike = [other for other in left if records[other].subset.is_reg == records[index].subset.is_reg]
        chosen = python_rng(self.seed, "stand-in", n, records[index].key, repeat).choice(alike or left)
        return Entry(chosen, fold("stand-in", records[index].key, repeat) & 0x7FFF_FFFF)

    def _batch_size(self, dataset: int) -> int:
        return self.filled.blueprint.datasets[dataset].options.batch_size * self.processes

    def _request(self, record: int, repeat: int, epoch: int, batch: int) -> SampleRequest:
        seed = fold(self.seed, epoch, self.filled.records[record].key, repeat)
        return SampleRequest(record, repeat, epoch, seed, self.filled.weight(record), batch)
