"""What the ledger reports per image: showings, sizes, captions as shown, how hard it is and how much of it was learned."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from library.data.config.blueprint import Size
from library.training.ledger.estimate import Effect, Estimate, Losses, effect, estimate
from library.training.ledger.visits import OTHER, ImageName, Numbers, Rows, Visits

BANDS = 4  # of timesteps
MOST_STRETCHES = 8  # of epochs
_WITHIN = 1.96  # standard errors on either side: 95 %


@dataclass(frozen=True)
class Figure:
    """A factor or share with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Part:
    """Showings at the timesteps, or in the epochs counted from 1, `first` to `last`; `times_usual` is None without any."""

    first: int
    last: int
    times: int
    times_usual: float | None


@dataclass(frozen=True)
class Measured:
    """What an image's losses say: `hardness` is a multiple of the usual loss, `learned` the share of the loss that disappeared."""

    hardness: Figure
    learned: Figure
    by_timestep: tuple[Part, ...]
    by_epoch: tuple[Part, ...]


@dataclass(frozen=True)
class Standing:
    """An image; `hardest` and `most_learned` are its ranks from 1, separately for training images and class images."""

    image: ImageName
    times: int = 0
    sizes: tuple[tuple[Size, int], ...] = ()
    captions: tuple[tuple[str, int], ...] = ()  # the most frequent first
    other_captions: int = 0  # showings with captions that are not stored
    measured: Measured | None = None
    hardest: int | None = None
    most_learned: int | None = None


def standings(visits: Visits, unseen: Sequence[ImageName]) -> list[Standing]:
    """All images, the hardest first; class images and those without figures come last."""
    rows = visits.rows()
    measured = _measured(visits, rows)
    times = np.bincount(rows["image"], minlength=len(visits.names))
    sizes, captions = _counted(rows["image"], rows["size"]), _counted(rows["image"], rows["caption"])
    known_sizes, texts = list(visits.sizes), [text for _, text in visits.captions]
    places = _places(visits.names, measured)
    images = []
    for number, name in enumerate(visits.names):
        counts = captions[number]
        others = counts.pop(OTHER, 0)
        images.append(
            Standing(
                name,
                int(times[number]),
                tuple((known_sizes[size], count) for size, count in counts_of(sizes[number])),
                tuple((texts[caption], count) for caption, count in counts_of(counts)),
                others,
                measured.get(number),
                *places.get(number, (None, None)),
            )
        )
    images += map(Standing, unseen)
    return sorted(images, key=lambda one: (one.image.is_class, one.hardest is None, one.hardest or 0, one.image.key))


def counts_of(counts: Counter[int]) -> list[tuple[int, int]]:
    """The most frequent first; equally frequent ones in the order of first appearance."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _counted(images: Numbers, values: Numbers) -> defaultdict[int, Counter[int]]:
    """{image: {value: how often it occurs with the image}}."""
    by_image: defaultdict[int, Counter[int]] = defaultdict(Counter)
    if len(images):
        pairs, counts = np.unique(np.stack([images, values], axis=1), axis=0, return_counts=True)
        for (image, value), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            by_image[image][value] = count
    return by_image


def _measured(visits: Visits, rows: Rows) -> dict[int, Measured]:
    """Figures of each image that has losses, compared within its dataset, class images separately."""
    groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for number, name in enumerate(visits.names):
        groups[name.dataset, name.is_class].append(number)
    usable = np.isfinite(rows["loss"]) & (rows["loss"] > 0)
    measured: dict[int, Measured] = {}
    for members in groups.values():
        place = np.full(len(visits.names), -1)
        place[members] = np.arange(len(members))
        mine = rows[usable & (place[rows["image"]] >= 0)]
        if len(mine):
            measured |= {members[one]: figures for one, figures in _of_group(mine, place[mine["image"]], len(members)).items()}
    return measured


def _of_group(rows: Rows, images: Numbers, count: int) -> dict[int, Measured]:
    progress = rows["step"] / max(1, int(rows["step"].max()))
    result = estimate(Losses(count, images, rows["timestep"], progress, np.log(rows["loss"].astype(np.float64))))
    bands, stretches = _bands(rows, images, count, result), _stretches(rows, images, count, result)
    seen = np.bincount(images, minlength=count)
    return {
        one: Measured(
            _factor(result.hardness, one), _share(result, one), tuple(band[one] for band in bands), tuple(part[one] for part in stretches)
        )
        for one in range(count)
        if seen[one]
    }


def _factor(figure: Effect, image: int) -> Figure:
    value, error = float(figure.values[image]), _WITHIN * float(figure.errors[image])
    return Figure(*(float(np.exp(value + shift)) for shift in (0.0, -error, error)))


def _share(result: Estimate, image: int) -> Figure:
    slope, error = result.mean_slope + float(result.slopes.values[image]), _WITHIN * float(result.slopes.errors[image])
    return Figure(*(float(-np.expm1(slope + shift)) for shift in (0.0, error, -error)))


def _bands(rows: Rows, images: Numbers, count: int, result: Estimate) -> list[list[Part]]:
    """For each of `BANDS` equal ranges of the timesteps that were shown, each image's loss relative to the usual there."""
    first, end = int(rows["timestep"].min()), int(rows["timestep"].max()) + 1
    edges = [first + (end - first) * band // BANDS for band in range(BANDS + 1)]
    bands = []
    for low, high in pairwise(edges):
        here = (rows["timestep"] >= low) & (rows["timestep"] < high)
        if here.any():
            values = effect(images[here], result.over_usual[here], result.weights[here], count).values
            times = np.bincount(images[here], minlength=count)
            bands.append([Part(low, high - 1, int(n), float(np.exp(value)) if n else None) for n, value in zip(times, values, strict=True)])
    return bands


def _stretches(rows: Rows, images: Numbers, count: int, result: Estimate) -> list[list[Part]]:
    """For each of at most `MOST_STRETCHES` ranges of epochs, each image's weighted mean loss relative to the curve of the whole run."""
    epochs = int(rows["epoch"].max()) + 1
    number = min(MOST_STRETCHES, epochs)
    of_row = rows["epoch"] * number // epochs
    stretches = []
    for stretch in range(number):
        here = of_row == stretch
        first, last = -(-stretch * epochs // number), -(-(stretch + 1) * epochs // number) - 1
        weight = np.bincount(images[here], result.weights[here], count)
        total = np.bincount(images[here], (result.weights * result.over_curve)[here], count)
        times = np.bincount(images[here], minlength=count)
        factors = np.exp(total / np.where(weight > 0, weight, 1.0))
        stretches.append([Part(first + 1, last + 1, int(n), float(value) if n else None) for n, value in zip(times, factors, strict=True)])
    return stretches


def _places(names: Sequence[ImageName], measured: dict[int, Measured]) -> dict[int, tuple[int, int]]:
    """{image: (rank among the hardest, rank among those learned most)}."""
    places: dict[int, tuple[int, int]] = {}
    for is_class in (False, True):
        mine = [number for number in measured if names[number].is_class == is_class]
        hardest = sorted(mine, key=lambda number: (-measured[number].hardness.value, names[number].key))
        learned = sorted(mine, key=lambda number: (-measured[number].learned.value, names[number].key))
        where = {number: place for place, number in enumerate(learned, 1)}
        places |= {number: (place, where[number]) for place, number in enumerate(hardest, 1)}
    return places
