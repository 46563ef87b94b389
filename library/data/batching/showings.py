"""The showings of an epoch by number, in room that repeats do not fill: train images with their repeats, regularization images in turn."""

from __future__ import annotations

import bisect
import functools
import itertools
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from library.data.config.blueprint import Size
from library.data.scan.records import ImageRecord
from library.seeds import fold

_AT_ONCE = 1 << 16


class Entry(NamedTuple):
    """One showing of an image in an epoch: index into FilledData.records, and the how-manieth showing it is."""

    record: int
    repeat: int


@dataclass(frozen=True)
class Pool:
    """Regularization images in the order in which they are taken, each as often as its num_repeats says; round and round."""

    records: array[int] = field(default_factory=lambda: array("I"))

    @functools.cached_property
    def _earlier(self) -> array[int]:
        """For each place how often its image stands before it."""
        seen: dict[int, int] = defaultdict(int)
        counts = array("I")
        for record in self.records:
            counts.append(seen[record])
            seen[record] += 1
        return counts

    @functools.cached_property
    def _repeats(self) -> Counter[int]:
        return Counter(self.records)

    @functools.cached_property
    def _before(self) -> dict[int, Counter[int]]:
        """How often each image stands before the place at which an epoch begins, of the epoch asked for last."""
        return {}

    def entry(self, start: int, number: int) -> Entry:
        """The showing `number` places behind `start`; its repeat counts those of its image since `start`."""
        begin = start % len(self.records)
        before = self._before.get(begin)
        if before is None:
            before = Counter(self.records[:begin])
            self._before.clear()
            self._before[begin] = before
        rounds, place = divmod(begin + number, len(self.records))
        record = self.records[place]
        return Entry(record, rounds * self._repeats[record] + self._earlier[place] - before[record])

    def distinct(self) -> set[int]:
        """The images in it."""
        return set(self.records)


@dataclass(frozen=True)
class Bucket:
    """The images of one dataset that share a size. An epoch's showings have numbers: those of train images first, each image's repeats in
    turn, then those of regularization images."""

    dataset: int
    size: Size
    train: tuple[tuple[int, int], ...]  # (record, repeats)
    pool: Pool = field(default_factory=Pool)
    drawn: int = 0  # regularization images an epoch, taken in turn from the pool

    @functools.cached_property
    def _ends(self) -> tuple[int, ...]:
        """The number of the first showing behind each train image's."""
        return tuple(itertools.accumulate(repeats for _, repeats in self.train))

    @property
    def shown(self) -> int:
        """Train images an epoch, with their repeats."""
        return self._ends[-1] if self._ends else 0

    @property
    def count(self) -> int:
        """Images an epoch."""
        return self.shown + self.drawn

    def entry(self, epoch: int, number: int) -> Entry:
        """One showing of an epoch. Where one epoch ends in the pool the next goes on, so every image has its turn."""
        if number >= self.shown:
            return self.pool.entry(epoch * self.drawn, number - self.shown)
        place = bisect.bisect_right(self._ends, number)
        record, repeats = self.train[place]
        return Entry(record, number - (self._ends[place] - repeats))

    def entries(self, epoch: int) -> tuple[Entry, ...]:
        """The showings of an epoch in the order of their numbers."""
        return tuple(self.entry(epoch, number) for number in range(self.count))


def pool_of(indices: Sequence[int], records: Sequence[ImageRecord]) -> Pool:
    """In an order that has nothing to do with folders, so that each stretch of it is a fair sample."""
    import numpy as np

    repeats = [records[index].subset.num_repeats for index in indices]
    folds = (
        fold("regularization", records[index].key, repeat) for index, most in zip(indices, repeats, strict=True) for repeat in range(most)
    )
    keys = np.fromiter(folds, dtype=np.uint64, count=sum(repeats))
    showings = np.repeat(np.array(indices, dtype=np.uint32), repeats)
    pool = array("I")
    pool.frombytes(showings[np.lexsort((showings, keys))].tobytes())
    return Pool(pool)


def numbers(count: int) -> array[int]:
    """0, 1, … in 4 bytes each, without the room that an array keeps for growing."""
    found = array("I", (0,)) * count
    for start in range(0, count, _AT_ONCE):
        found[start : start + _AT_ONCE] = array("I", range(start, min(start + _AT_ONCE, count)))
    return found
