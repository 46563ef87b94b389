"""The numbered showings of an epoch: train images with their repeats, then regularization images in turn.

The memory used does not grow with repeats.
"""

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
    """One showing of an image in an epoch: index into FilledData.records, and which repeat of the image it is."""

    record: int
    repeat: int


@dataclass(frozen=True)
class Pool:
    """Regularization images in the order of use, each as often as its num_repeats; the order repeats endlessly."""

    records: array[int] = field(default_factory=lambda: array("I"))

    @functools.cached_property
    def _earlier(self) -> array[int]:
        """For each index, how often its image occurs before it."""
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
        """How often each image occurs before the index at which an epoch starts; caches the last requested epoch only."""
        return {}

    def entry(self, start: int, number: int) -> Entry:
        """The showing at `number` places after `start`; `repeat` counts the showings of its image since `start`."""
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
        """The indices of the images, without duplicates."""
        return set(self.records)


@dataclass(frozen=True)
class Bucket:
    """The images of one dataset that share a size.

    The showings of an epoch are numbered: first train images, each with all its repeats in turn, then regularization images.
    """

    dataset: int
    size: Size
    train: tuple[tuple[int, int], ...]  # (record, repeats)
    pool: Pool = field(default_factory=Pool)
    drawn: int = 0  # regularization images per epoch, taken in turn from the pool

    @functools.cached_property
    def _ends(self) -> tuple[int, ...]:
        """For each train image, the number of the first showing after it."""
        return tuple(itertools.accumulate(repeats for _, repeats in self.train))

    @property
    def shown(self) -> int:
        """Train images per epoch, including repeats."""
        return self._ends[-1] if self._ends else 0

    @property
    def count(self) -> int:
        """Images per epoch."""
        return self.shown + self.drawn

    def entry(self, epoch: int, number: int) -> Entry:
        """One showing of an epoch. Regularization images continue where the previous epoch ended, so all of them are used."""
        if number >= self.shown:
            return self.pool.entry(epoch * self.drawn, number - self.shown)
        place = bisect.bisect_right(self._ends, number)
        record, repeats = self.train[place]
        return Entry(record, number - (self._ends[place] - repeats))

    def entries(self, epoch: int) -> tuple[Entry, ...]:
        """The showings of an epoch in the order of their numbers."""
        return tuple(self.entry(epoch, number) for number in range(self.count))


def pool_of(indices: Sequence[int], records: Sequence[ImageRecord]) -> Pool:
    """A pool in an order independent of folders, so that each part of it is a fair sample."""
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
    """0, 1, … in 4 bytes each, without the spare memory of a growing array."""
    ascending = array("I", (0,)) * count
    for start in range(0, count, _AT_ONCE):
        ascending[start : start + _AT_ONCE] = array("I", range(start, min(start + _AT_ONCE, count)))
    return ascending
