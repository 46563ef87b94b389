"""Finds duplicate images: identical bytes, or the same image in another size or format. Run time is never quadratic."""

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

MOST_SIGNS = 5  # of 64 bits that may differ between two signatures of the same image
MOST_COLOUR = 24  # of 255, in each of the 4×4 fields
MOST_ASPECT = 0.03  # largest relative difference of width ÷ height
_BANDS = 7  # MOST_SIGNS + 2: two signatures that differ in at most MOST_SIGNS bits agree in at least two whole bands
_NEIGHBOURS = 32  # an image is compared with at most this many others that have the same key


@dataclass(frozen=True)
class Candidate:
    """An image to compare: file, size (width, height) in pixels, bytes, and signature."""

    path: Path
    size: tuple[int, int]
    bytes: int
    signature: str


@dataclass(frozen=True)
class Digest:
    """Hex SHA-256 of a file's bytes; only read if another file has the same length and signature."""

    sha256: str

    @classmethod
    def from_values(cls, values: Sequence[Any]) -> Digest | None:
        """The fact with these fields, in order; None if the values are invalid."""
        match values:
            case [str(digest)] if len(digest) == 64:
                return cls(digest)
        return None


@dataclass(frozen=True)
class Group:
    """Images that are the same, as indices into the candidates; `identical`: byte for byte."""

    members: tuple[int, ...]
    identical: bool


def find_groups(candidates: Sequence[Candidate], digest: Callable[[Path], str] = sha256) -> list[Group]:
    """Groups of identical files, then groups of similar images, where the first of each set of identical files represents the set.

    Files are read (`digest`) only if length and signature agree.
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
    """Sets of similar images; each image is similar to at least one other of its set.

    Images with the same key (two bands) are sorted by their signature bits and compared with a limited number of neighbours.
    """
    count = len(candidates)
    table = np.frombuffer(bytes.fromhex("".join(one.signature for one in candidates)), dtype=np.uint8).reshape(count, SIGNATURE_BYTES)
    signs = np.ascontiguousarray(table[:, :8]).view(">u8").ravel().astype(np.uint64)
    colours = table[:, 8:].astype(np.int16)
    aspects = np.log([one.size[0] / one.size[1] for one in candidates])
    sets = np.arange(count)  # set number of each image
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
    by_set: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(sets.tolist()):
        by_set[number].append(index)
    return [members for members in by_set.values() if len(members) > 1]


def _joined(sets: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The set numbers after merging the sets of left[i] and right[i]."""
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
