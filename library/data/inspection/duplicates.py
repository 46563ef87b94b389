"""Which images are there twice: the same bytes, or the same picture in another size or format; never quadratic."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from library.data.inspection.image_signature import SIGNATURE_BYTES
from library.files import sha256

MOST_SIGNS = 5  # of 64 that may differ between two looks of one picture
MOST_COLOUR = 24  # of 255, in any of the 4×4 fields
MOST_ASPECT = 0.03  # share by which width ÷ height may differ
_BANDS = 7  # MOST_SIGNS + 2: two signatures that differ in at most MOST_SIGNS places agree in at least two whole bands
_NEIGHBOURS = 32  # compared at most with each image of the same key


@dataclass(frozen=True)
class Candidate:
    """An image to compare: its file, size (width, height) in pixels, bytes, and the signature of its look."""

    path: Path
    size: tuple[int, int]
    bytes: int
    signature: str


@dataclass(frozen=True)
class Digest:
    """Hex SHA-256 of a file's bytes, which is read where others are of the same length and look."""

    sha256: str

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Digest | None:
        """The fact whose fields these are, in their order; None when the values are no such thing."""
        match values:
            case [str(digest)] if len(digest) == 64:
                return cls(digest)
        return None


@dataclass(frozen=True)
class Group:
    """Images that are the same, as indices into the candidates; `identical`: to the last byte."""

    members: tuple[int, ...]
    identical: bool


def find_groups(candidates: Sequence[Candidate], digest: Callable[[Path], str] = sha256) -> list[Group]:
    """Groups of identical files, then groups of pictures alike in which each set of identical files stands with its first.

    Files are read (`digest`) only where length and signature agree already.
    """
    identical = _identical(candidates, digest)
    copies = {member for members in identical for member in members[1:]}
    single = [index for index in range(len(candidates)) if index not in copies]
    alike = [[single[index] for index in members] for members in _alike([candidates[index] for index in single])]
    return [Group(tuple(members), True) for members in identical] + [Group(tuple(members), False) for members in alike]


def _identical(candidates: Sequence[Candidate], digest: Callable[[Path], str]) -> list[list[int]]:
    same: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, one in enumerate(candidates):
        same[one.bytes, one.signature].append(index)
    groups: dict[str, list[int]] = defaultdict(list)
    for members in same.values():
        if len(members) > 1:
            for index in members:
                groups[digest(candidates[index].path)].append(index)
    return [members for members in groups.values() if len(members) > 1]


def _alike(candidates: Sequence[Candidate]) -> list[list[int]]:
    """Sets of pictures that look the same, each like another one of its set.

    Where a key (two bands) is the same, images are compared: in the order of all their signs, each with a bounded number of neighbours.
    """
    count = len(candidates)
    table = np.frombuffer(bytes.fromhex("".join(one.signature for one in candidates)), dtype=np.uint8).reshape(count, SIGNATURE_BYTES)
    signs = np.ascontiguousarray(table[:, :8]).view(">u8").ravel().astype(np.uint64)
    colours = table[:, 8:].astype(np.int16)
    aspects = np.log([one.size[0] / one.size[1] for one in candidates])
    sets = np.arange(count)  # the number of each image's set
    for one, other in itertools.combinations(np.array_split(np.arange(64), _BANDS), 2):
        keys = signs & np.uint64(sum(1 << int(place) for place in (*one, *other)))
        order = np.lexsort((signs, keys))
        for step in range(1, _NEIGHBOURS + 1):
            left, right = order[:-step], order[step:]
            together = keys[left] == keys[right]
            if not together.any():
                break
            left, right = left[together], right[together]
            near = (sets[left] != sets[right]) & (np.bitwise_count(signs[left] ^ signs[right]) <= MOST_SIGNS)
            left, right = left[near], right[near]
            near = np.abs(colours[left] - colours[right]).max(axis=1, initial=0) <= MOST_COLOUR
            near &= np.abs(aspects[left] - aspects[right]) <= MOST_ASPECT
            sets = _joined(sets, left[near], right[near])
    found: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(sets.tolist()):
        found[number].append(index)
    return [members for members in found.values() if len(members) > 1]


def _joined(sets: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The numbers of the sets when those of left[i] and right[i] are one."""
    above: dict[int, int] = {}

    def root(number: int) -> int:
        while above.setdefault(number, number) != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    for one, other in zip(sets[left].tolist(), sets[right].tolist(), strict=True):
        first, second = sorted((root(one), root(other)))
        above[second] = first
    numbers = np.arange(len(sets))
    for number in above:
        numbers[number] = root(number)
    joined: np.ndarray = numbers[sets]
    return joined
