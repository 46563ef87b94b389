"""The showings of images as a table of 36 bytes each, and the names, captions and sizes that it refers to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from library.data.config.blueprint import Size
from library.training.step.pending import Showing

MOST_CAPTIONS = 16  # distinct captions that are stored per image; others are only counted
OTHER = -1  # in place of a caption that is not stored
ROW = np.dtype(
    [
        ("step", "<i4"),  # updates done with this one
        ("epoch", "<i4"),  # epochs done before
        ("image", "<i4"),
        ("caption", "<i4"),
        ("size", "<i4"),
        ("timestep", "<i4"),
        ("loss", "<f4"),
        ("order", "<i8"),  # within the update; final once the showings of all processes are together
    ]
)
KEPT = tuple(name for name in ROW.names or () if name != "order")
Rows = npt.NDArray[np.void]
Numbers = npt.NDArray[Any]
T = TypeVar("T")
_AT_ONCE = 4096


class ImageName(NamedTuple):
    """An image in the ledger, identified by its `key`; images are compared within their dataset, class images separately."""

    key: str
    path: str
    dataset: int
    is_class: bool  # a regularization image


@dataclass(frozen=True)
class Part:
    """The showings of one process, to send to another."""

    images: Sequence[ImageName]
    captions: Sequence[tuple[int, str]]  # (image, text)
    sizes: Sequence[Size]
    rows: Rows


class Visits:
    """Showings in the order of recording; `names`, `captions` and `sizes` are in the order of first appearance."""

    def __init__(self) -> None:
        self.names: list[ImageName] = []
        self.images: dict[str, int] = {}  # place in `names` by key
        self.captions: dict[tuple[int, str], int] = {}
        self.sizes: dict[Size, int] = {}
        self._texts: Counter[int] = Counter()  # different captions by image
        self._blocks: list[Rows] = []
        self._fresh: list[tuple[float, ...]] = []

    @classmethod
    def of(cls, names: Sequence[ImageName], captions: Sequence[tuple[int, str]], sizes: Sequence[Size], rows: Rows) -> Visits:
        """Showings from saved tables and rows. Raises ValueError for a name, caption or size that occurs twice."""
        visits = cls()
        visits.names, visits.images = list(names), {name.key: place for place, name in enumerate(names)}
        visits.captions = {one: place for place, one in enumerate(captions)}
        visits.sizes = {size: place for place, size in enumerate(sizes)}
        if (len(visits.images), len(visits.captions), len(visits.sizes)) != (len(names), len(captions), len(sizes)):
            raise ValueError("a table names an item twice")
        visits._texts.update(image for image, _ in captions)
        visits._blocks = [rows]
        return visits

    def add(self, step: int, epoch: int, image: ImageName, showing: Showing, order: int) -> None:
        """Record one showing."""
        number = self._image(image)
        caption, size = self._caption(number, showing.caption), self._size(showing.size)
        self._fresh.append((step, epoch, number, caption, size, showing.timestep, showing.loss, order))
        if len(self._fresh) >= _AT_ONCE:
            self._settle()

    def rows(self) -> Rows:
        """All showings."""
        self._settle()
        if len(self._blocks) != 1:
            self._blocks = [np.concatenate(self._blocks)] if self._blocks else [np.empty(0, ROW)]
        return self._blocks[0]

    def forget_after(self, step: int) -> None:
        """Drop the showings after update `step`, to which the run has returned."""
        rows = self.rows()
        self._blocks = [rows[rows["step"] <= step]]

    def take(self) -> Part:
        """Return all showings and remove them from here."""
        part = Part(self.names, list(self.captions), list(self.sizes), self.rows())
        self.names, self.images, self.captions, self.sizes = [], {}, {}, {}
        self._texts, self._blocks = Counter(), []
        return part

    def extend(self, parts: Sequence[Part]) -> None:
        """Add the showings of all processes since the last call, in an order that does not depend on the number of processes."""
        rows = np.concatenate([part.rows for part in parts])
        origin = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
        order = np.lexsort((rows["order"], rows["step"]))
        rows, origin = rows[order], origin[order]
        rows["image"] = _renumbered(rows["image"], origin, [part.images for part in parts], self._image)
        rows["size"] = _renumbered(rows["size"], origin, [part.sizes for part in parts], self._size)
        texts = [[(part.images[image], text) for image, text in part.captions] for part in parts]
        stored = rows["caption"] != OTHER
        rows["caption"][stored] = _renumbered(
            rows["caption"][stored], origin[stored], texts, lambda one: self._caption(self._image(one[0]), one[1])
        )
        self._settle()
        self._blocks.append(rows)

    def rename(self, names: Iterable[ImageName]) -> None:
        """Update known images to these names by their keys: their files may have moved."""
        for name in names:
            if (place := self.images.get(name.key)) is not None:
                self.names[place] = name

    def _image(self, name: ImageName) -> int:
        place = self.images.setdefault(name.key, len(self.names))
        if place == len(self.names):
            self.names.append(name)
        return place

    def _size(self, size: Size) -> int:
        return self.sizes.setdefault(size, len(self.sizes))

    def _caption(self, image: int, text: str) -> int:
        known = self.captions.get((image, text))
        if known is not None:
            return known
        if self._texts[image] >= MOST_CAPTIONS:
            return OTHER
        self._texts[image] += 1
        return self.captions.setdefault((image, text), len(self.captions))

    def _settle(self) -> None:
        if self._fresh:
            self._blocks.append(np.array(self._fresh, ROW))
            self._fresh = []


def _renumbered(numbers: Numbers, origin: Numbers, tables: Sequence[Sequence[T]], number_of: Callable[[T], int]) -> Numbers:
    """`numbers`, which point into the tables of their parts (`origin`), as numbers of `number_of`, called in order of first appearance."""
    begins = np.concatenate([[0], np.cumsum([len(table) for table in tables])])
    flat = [name for table in tables for name in table]
    distinct, first, inverse = np.unique(numbers + begins[origin], return_index=True, return_inverse=True)
    new = np.zeros(len(distinct), np.int64)
    for place in np.argsort(first):
        new[place] = number_of(flat[int(distinct[place])])
    return new[inverse]
