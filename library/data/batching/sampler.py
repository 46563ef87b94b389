"""The order of an epoch: which images make which batch, and which process takes which, as functions of (seed, epoch) alone."""

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
    """One showing of one image. `seed` carries every random draw made for it; `weight` multiplies its loss."""

    record: int  # index into FilledData.records
    repeat: int
    epoch: int
    seed: int  # fold(run seed, epoch, record.key, repeat): the same in whatever batch, worker or process
    weight: float
    batch: int  # global batches before this one since the run's start
    stratum: tuple[int, int] | None = None  # its place among the images of its update, in an order drawn at random, and their number


@dataclass(frozen=True)
class Cut:
    """A stretch of an epoch that was trained in batches of other sizes: `sizes` are images a global batch, by dataset."""

    sizes: tuple[int, ...]
    batches: int  # done before the sizes changed


@dataclass(frozen=True)
class Begun:
    """An epoch under way whose first images were trained in batches of other sizes."""

    epoch: int
    cuts: tuple[Cut, ...]


@dataclass(frozen=True)
class _Order:
    """An epoch cut into batches, in 4 bytes a showing and 4 a batch: `due` are the numbers of its showings by bucket, shuffled,
    `sizes` images a batch by bucket, `begins` the number of each bucket's first batch, `order` that of each batch in training."""

    due: list[array[int]]
    sizes: list[int]
    begins: tuple[int, ...]
    order: array[int]

    def showings(self, batch: int) -> tuple[int, array[int]]:
        """The bucket of a batch, and the numbers of its showings."""
        place = bisect.bisect_right(self.begins, batch) - 1
        size = self.sizes[place]
        first = (batch - self.begins[place]) * size
        return place, self.due[place][first : first + size]


class _Epoch(Sequence[GlobalBatch]):
    """The batches of an epoch, made one by one: those of all showings at once would take more room than images."""

    def __init__(self, sampler: EpochSampler, epoch: int, order: _Order, first: int, places: range) -> None:
        """`first` are the run's batches before the epoch's, `places` those in `order` that are shown."""
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

    __hash__ = None  # type: ignore[assignment]  # how Python itself says that a sequence has none


def by_update(batches: Sequence[GlobalBatch], size: int, seed: int = 0) -> Iterator[GlobalBatch]:
    """`batches` in the same order, `size` of them an update (the last one may have fewer), weighed so that the mean over an update's
    batches of their means over images is the mean over all its images: each counts the same, whatever the size of its batch.

    Each request has its stratum among those of its update; `seed` is the run's.
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
    """Global batches of batch_size × processes images of one bucket each; every train image × its repeats once an epoch.

    `begun` is for a run that goes on with other batch sizes inside an epoch: the images of that epoch that are still due, and no
    others, are cut into batches anew.
    """

    def __init__(self, filled: FilledData, seed: int, processes: int = 1, begun: Begun | None = None) -> None:
        assert processes >= 1
        self.filled, self.seed, self.processes, self.begun = filled, seed, processes, begun
        self._gone: frozenset[int] = frozenset()

    def leave_out(self, keys: Collection[str]) -> None:
        """Show the images of these record keys no more: in their places others of the same size are shown, so that no batch, epoch or
        update becomes another one. Raises UserError where no image would be left."""
        gone = frozenset(index for index, record in enumerate(self.filled.records) if record.key in keys)
        if all(record in gone for bucket in self.filled.buckets for record, _ in bucket.train):
            raise UserError(coded("DATA-012", "every image is excluded from training; nothing is left to train"))
        self._gone = gone

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images a global batch, by dataset."""
        return tuple(self._batch_size(number) for number in range(len(self.filled.blueprint.datasets)))

    def length(self, n: int) -> int:
        """Batches of epoch `n`: `batches_per_epoch`, or less where it was begun in other sizes."""
        return len(self._order(n).order) if self._cuts(n) else self.batches_per_epoch

    @property
    def batches_per_epoch(self) -> int:
        """Σ over buckets of ⌈images / (batch_size × processes)⌉."""
        return sum(-(-bucket.count // self._batch_size(bucket.dataset)) for bucket in self.filled.buckets)

    def epoch(self, n: int, start: int = 0) -> Sequence[GlobalBatch]:
        """The global batches of epoch `n` (from 0), without the first `start` ones; each is made when it is asked for."""
        order = self._order(n)
        return _Epoch(self, n, order, (n + 1) * self.batches_per_epoch - len(order.order), range(start, len(order.order)))

    def _cuts(self, n: int) -> tuple[Cut, ...]:
        return self.begun.cuts if self.begun is not None and self.begun.epoch == n else ()

    def _order(self, n: int) -> _Order:
        """The batches of epoch `n` in their order, after what earlier cuts of it have done."""
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
        """The showings of each bucket in batches, in the order of training; `number` counts the cuts of the epoch."""
        of_bucket = [sizes[bucket.dataset] for bucket in self.filled.buckets]
        begins = (0, *itertools.accumulate(-(-len(showings) // size) for showings, size in zip(due, of_bucket, strict=True)))
        order = numbers(begins[-1])
        python_rng(self.seed, "batches", n, *([number] if number else [])).shuffle(order)
        return _Order(due, of_bucket, begins, order)

    def share(self, batch: GlobalBatch, process: int) -> GlobalBatch:
        """The images of a global batch that `process` takes.

        Their weights are scaled by len(share)·processes/len(batch), so that the mean of loss·weight over the share, averaged over
        processes, is the mean over the global batch. A process for which nothing is left takes one image with weight 0.
        """
        mine = batch[process :: self.processes]
        if not mine:
            return (replace(batch[0], weight=0.0),)
        return _scaled(mine, len(mine) * self.processes / len(batch))

    def batch_of(self, n: int, order: _Order, place: int, number: int) -> GlobalBatch:
        """The batch at `place` of an order of epoch `n`, the run's `number`th."""
        bucket, showings = order.showings(order.order[place])
        entries = [self.filled.buckets[bucket].entry(n, showing) for showing in showings]
        return tuple(self._request(record, repeat, n, number) for record, repeat in self._present(entries, n))

    def _present(self, batch: list[Entry], n: int) -> list[Entry]:
        """The batch with others in the places of images that are left out; of another size altogether where none of its size is left."""
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
        """One of `left` by chance, of the same kind if possible, as a showing of its own so that its draws are others."""
        (index, repeat), records = entry, self.filled.records
        alike = [other for other in left if records[other].subset.is_reg == records[index].subset.is_reg]
        chosen = python_rng(self.seed, "stand-in", n, records[index].key, repeat).choice(alike or left)
        return Entry(chosen, fold("stand-in", records[index].key, repeat) & 0x7FFF_FFFF)

    def _batch_size(self, dataset: int) -> int:
        return self.filled.blueprint.datasets[dataset].options.batch_size * self.processes

    def _request(self, record: int, repeat: int, epoch: int, batch: int) -> SampleRequest:
        seed = fold(self.seed, epoch, self.filled.records[record].key, repeat)
        return SampleRequest(record, repeat, epoch, seed, self.filled.weight(record), batch)
