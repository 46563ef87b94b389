"""The order of an epoch: which images make which batch, and which process takes which, as functions of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from library.data.batching.buckets import Bucket, Entry, FilledData
from library.errors import UserError
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
        if all(entry.record in gone for bucket in self.filled.buckets for entry in bucket.train):
            raise UserError("every image is left out of the training; nothing is left to train")
        self._gone = gone

    @property
    def sizes(self) -> tuple[int, ...]:
        """Images a global batch, by dataset."""
        return tuple(self._batch_size(number) for number in range(len(self.filled.blueprint.datasets)))

    def length(self, n: int) -> int:
        """Batches of epoch `n`: `batches_per_epoch`, or less where it was begun in other sizes."""
        return len(self._batches(n)) if self._cuts(n) else self.batches_per_epoch

    @property
    def batches_per_epoch(self) -> int:
        """Σ over buckets of ⌈images / (batch_size × processes)⌉."""
        return sum(-(-bucket.count // self._batch_size(bucket.dataset)) for bucket in self.filled.buckets)

    def epoch(self, n: int, start: int = 0) -> Sequence[GlobalBatch]:
        """The global batches of epoch `n` (from 0), without the first `start` ones."""
        batches = self._batches(n)
        first = (n + 1) * self.batches_per_epoch - len(batches)
        return [
            tuple(self._request(record, repeat, n, first + number) for record, repeat in self._present(batch, n))
            for number, batch in enumerate(batches[start:], start=start)
        ]

    def _cuts(self, n: int) -> tuple[Cut, ...]:
        return self.begun.cuts if self.begun is not None and self.begun.epoch == n else ()

    def _batches(self, n: int) -> list[list[Entry]]:
        """The batches of epoch `n` in their order, after what earlier cuts of it have done."""
        due = []
        for bucket in self.filled.buckets:
            entries = list(bucket.entries(n))
            python_rng(self.seed, "bucket", n, bucket.dataset, *bucket.size).shuffle(entries)
            due.append(entries)
        cuts = self._cuts(n)
        for number, cut in enumerate(cuts):
            rest = self._cut(due, cut.sizes, n, number)[cut.batches :]
            due = [[] for _ in due]
            for place, _, batch in sorted(rest, key=lambda item: item[:2]):  # back in the order of their bucket
                due[place] += batch
        return [batch for _, _, batch in self._cut(due, self.sizes, n, len(cuts))]

    def _cut(self, due: list[list[Entry]], sizes: Sequence[int], n: int, number: int) -> list[tuple[int, int, list[Entry]]]:
        """(bucket, first entry, entries) of each batch, in the order of training; `number` counts the cuts of the epoch."""
        batches = []
        for place, entries in enumerate(due):
            size = sizes[self.filled.buckets[place].dataset]
            batches += [(place, begin, entries[begin : begin + size]) for begin in range(0, len(entries), size)]
        python_rng(self.seed, "batches", n, *([number] if number else [])).shuffle(batches)
        return batches

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
            rng = python_rng(self.seed, "stand-in bucket", n, *map(str, batch))
            left = self._left([rng.choice([bucket for bucket in self.filled.buckets if self._left([bucket])])])
        return [entry if entry[0] not in self._gone and not whole else self._stand_in(entry, left, n) for entry in batch]

    def _left(self, buckets: Sequence[Bucket]) -> list[int]:
        shown = {index for bucket in buckets for index in (*(entry.record for entry in bucket.train), *bucket.pool)}
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
