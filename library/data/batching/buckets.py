"""Assigns a bucket to each image and fills the buckets of a run."""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from library.data.batching.showings import Bucket, Pool, pool_of
from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, Size, SubsetOptions
from library.data.scan.records import ImageRecord, Scan
from library.errors import Problem, UserError, coded
from library.files import is_image
from library.words import counted, named

MOST_SHOWN = 20_000_000  # showings per epoch; checked only where images are repeated


@dataclass(frozen=True, slots=True)
class Placement:
    """How an image is resized and cropped: scaled to `resized`, which covers `bucket`, then cropped to `bucket`."""

    bucket: Size
    resized: Size


@dataclass(frozen=True)
class DatasetFigures:
    """Figures of one dataset for the plan; all counts are per epoch except `images` and `reg_images`, which count files."""

    images: int
    shown: int  # train images × repeats
    reg_images: int
    reg_shown: int
    reg_left_over: int  # files not shown in one epoch
    batch_size: int
    buckets: tuple[tuple[Size, int], ...]  # (size, images per epoch)


@dataclass(frozen=True)
class FilledData:
    """Everything that is trained: `placements[i]` belongs to `records[i]`.

    Images that fit no bucket are left out and reported in `findings`.
    """

    blueprint: DatasetBlueprint
    records: tuple[ImageRecord, ...]
    placements: tuple[Placement, ...]
    buckets: tuple[Bucket, ...]
    prior_loss_weight: float
    figures: tuple[DatasetFigures, ...]
    findings: tuple[str, ...]
    prior_from_base: float | None = None  # loss weight of showings whose target is the base model's prediction; None: unused

    def weight(self, record: int) -> float:
        """The factor of an image's loss: its subset's loss_weight, for regularization images times prior_loss_weight."""
        subset = self.records[record].subset
        return subset.loss_weight * (self.prior_loss_weight if subset.is_reg else 1.0)

    @functools.cached_property
    def images_of(self) -> Mapping[SubsetOptions, int]:
        """Number of images per subset. Each subset contains its place in the config, so no two are equal."""
        counts: dict[SubsetOptions, int] = {}
        for _, group in itertools.groupby(self.records, key=lambda record: id(record.subset)):
            mine = list(group)
            counts[mine[0].subset] = counts.get(mine[0].subset, 0) + len(mine)
        return counts


@functools.lru_cache(maxsize=64)
def bucket_sizes(options: DatasetOptions) -> tuple[Size, ...]:
    """The predefined buckets of a dataset, sorted, without duplicates."""
    low, high, steps = options.min_bucket_reso, options.max_bucket_reso, options.bucket_reso_steps
    area = options.resolution[0] * options.resolution[1]
    side = math.isqrt(area) // steps * steps
    sizes = {(side, side)}
    for width in range(low, high + 1, steps):
        height = min(high, area // width // steps * steps)
        if height >= low:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def place(size: Size, options: DatasetOptions) -> Placement | None:
    """Bucket and resized size of an image of `size`; None if a side of its bucket would be 0 (only with bucket_no_upscale)."""
    if not options.enable_bucket:
        return cover(size, options.resolution)
    if options.bucket_no_upscale:
        return _without_upscaling(size, options)
    sizes = bucket_sizes(options)
    if size in sizes:
        return Placement(size, size)
    aspect = size[0] / size[1]
    return cover(size, min(sizes, key=lambda bucket: abs(bucket[0] / bucket[1] - aspect)))


def _place_of(record: ImageRecord, options: DatasetOptions) -> Placement | None:
    # cached latents without their image exist only in the size they were encoded at
    if record.train_resolution and (record.subset.as_prepared or not is_image(record.path)):
        return cover(record.size, record.train_resolution)
    return place(record.size, options)


def cover(size: Size, bucket: Size) -> Placement:
    """Placement that makes an image of `size` cover `bucket`.

    It is scaled by height if it is wider than the bucket, else by width; the other side is rounded half up in integer arithmetic.
    """
    (width, height), (bucket_width, bucket_height) = size, bucket
    if width * bucket_height > bucket_width * height:
        return Placement(bucket, ((2 * width * bucket_height + height) // (2 * height), bucket_height))
    return Placement(bucket, (bucket_width, (2 * height * bucket_width + width) // (2 * width)))


def _without_upscaling(size: Size, options: DatasetOptions) -> Placement | None:
    steps = options.bucket_reso_steps
    area = options.resolution[0] * options.resolution[1]
    resized = size if size[0] * size[1] <= area else _shrunk(size, area, steps)
    if resized is None or min(resized) < steps:
        return None
    return Placement((resized[0] // steps * steps, resized[1] // steps * steps), resized)


def _shrunk(size: Size, area: int, steps: int) -> Size | None:
    """Shrink `size` to about `area` pixels with one side a multiple of `steps`.

    Of the two candidates, the one with the nearer floored aspect ratio is used; None if neither is possible.
    """
    aspect = size[0] / size[1]
    ideal_width = math.sqrt(area * aspect)
    width = _floored(ideal_width, steps)
    height_of_width = _floored(width / aspect, steps)
    height = _floored(area / ideal_width, steps)
    width_of_height = _floored(height * aspect, steps)
    by_width = abs(width / height_of_width - aspect) if height_of_width else math.inf
    by_height = abs(width_of_height / height - aspect) if height else math.inf
    if math.isinf(by_width) and math.isinf(by_height):
        return None
    if by_width < by_height:
        return width, _half_up(width / aspect)
    return _half_up(height * aspect), height


def _half_up(value: float) -> int:
    return int(value + 0.5)


def _floored(value: float, steps: int) -> int:
    return _half_up(value) // steps * steps


def fill(scan: Scan, prior_loss_weight: float = 1.0) -> FilledData:
    """Put every image into its bucket and balance regularization images; UserError when a dataset has nothing left to train."""
    specs = scan.blueprint.datasets
    shared: dict[tuple[int, Size, Size | None, bool], Placement | None] = {}  # shared by all images of the same size
    places = []
    for record in scan.records:
        kind = (record.dataset, record.size, record.train_resolution, record.subset.as_prepared)
        if kind not in shared:
            shared[kind] = _place_of(record, specs[record.dataset].options)
        places.append(shared[kind])
    placed = [(record, placement) for record, placement in zip(scan.records, places, strict=True) if placement]
    records = tuple(record for record, _ in placed)
    placements = tuple(placement for _, placement in placed)
    findings, faults = _left_out(scan, [record for record, placement in zip(scan.records, places, strict=True) if not placement])
    buckets: list[Bucket] = []
    figures: list[DatasetFigures] = []
    for number, spec in enumerate(specs):
        mine = [index for index, record in enumerate(records) if record.dataset == number]
        if fault := _too_many(spec.subsets[0].place, [records[index].subset.num_repeats for index in mine]):
            faults.append(fault)
            continue
        filled = _fill_dataset(number, mine, records, placements)
        buckets += filled
        figures.append(_figures(mine, records, filled, spec.options.batch_size))
        if not figures[-1].images:
            faults.append(coded("DATA-012", f"{spec.subsets[0].place}: no train image is left in this dataset"))
        findings += _balance(spec.subsets[0].place, figures[-1], filled)
    if faults:
        raise UserError(*faults)
    return FilledData(scan.blueprint, records, placements, tuple(buckets), prior_loss_weight, tuple(figures), (*scan.findings, *findings))


def _too_many(place: str, repeats: list[int]) -> Problem | None:
    """The error if repeats (not images) make an epoch so long that its order alone would take minutes and gigabytes; else None."""
    shown = sum(repeats)
    if shown <= MOST_SHOWN or max(repeats) == 1:
        return None
    return coded(
        "DATA-013",
        f"{place}: num_repeats makes {counted(len(repeats), 'image')} {shown:,} per epoch, and {MOST_SHOWN:,} is the maximum; "
        "lower num_repeats and raise --max_train_epochs instead",
    )


def _left_out(scan: Scan, records: list[ImageRecord]) -> tuple[list[str], list[Problem]]:
    if not records:
        return [], []
    names = named([f"{record.path} ({record.size[0]}×{record.size[1]})" for record in records])
    line = (
        f"{counted(len(records), 'image')} skipped: with bucket_no_upscale a side would be shorter than bucket_reso_steps;"
        f" lower bucket_reso_steps or enlarge them: {names}"
    )
    return ([], [coded("DATA-012", line)]) if len(records) == len(scan.records) else ([line], [])


def _fill_dataset(number: int, mine: list[int], records: tuple[ImageRecord, ...], placements: tuple[Placement, ...]) -> list[Bucket]:
    train: dict[Size, list[tuple[int, int]]] = defaultdict(list)
    pools: dict[Size, list[int]] = defaultdict(list)
    for index in mine:
        size = placements[index].bucket
        if records[index].subset.is_reg:
            pools[size].append(index)
        else:
            train[size].append((index, records[index].subset.num_repeats))
    filled = {size: pool_of(pool, records) for size, pool in pools.items()}
    wanted = sum(repeats for shares in train.values() for _, repeats in shares)
    drawn = _shares(wanted, {size: len(pool.records) for size, pool in filled.items()})
    return [
        Bucket(number, size, tuple(train[size]), filled.get(size, Pool()), drawn.get(size, 0))
        for size in sorted({*train, *(size for size, count in drawn.items() if count)})
    ]


def _shares(total: int, pools: dict[Size, int]) -> dict[Size, int]:
    """`total` divided in proportion to the pools' sizes, as whole numbers; the largest remainders are rounded up."""
    whole = sum(pools.values())
    if not whole:
        return {}
    shares = {size: total * count // whole for size, count in pools.items()}
    by_remainder = sorted(pools, key=lambda size: (-(total * pools[size] % whole), size))
    for size in by_remainder[: total - sum(shares.values())]:
        shares[size] += 1
    return shares


def _figures(mine: list[int], records: tuple[ImageRecord, ...], buckets: list[Bucket], batch_size: int) -> DatasetFigures:
    reg_images = sum(records[index].subset.is_reg for index in mine)
    seen = {record for bucket in buckets for record in bucket.pool.records[: bucket.drawn]}
    return DatasetFigures(
        images=len(mine) - reg_images,
        shown=sum(bucket.shown for bucket in buckets),
        reg_images=reg_images,
        reg_shown=sum(bucket.drawn for bucket in buckets),
        reg_left_over=reg_images - len(seen),
        batch_size=batch_size,
        buckets=tuple((bucket.size, bucket.count) for bucket in buckets if bucket.count),
    )


def _balance(place: str, figures: DatasetFigures, buckets: list[Bucket]) -> list[str]:
    """The finding about regularization images that are left over; empty if all are used."""
    if not figures.reg_left_over:
        return []
    reachable = len({index for bucket in buckets if bucket.drawn for index in bucket.pool.distinct()})
    never = figures.reg_images - reachable
    line = (
        f"{place}: {figures.reg_left_over} of {counted(figures.reg_images, 'regularization image')} left over in each epoch"
        f" (as many are used as there are train images × repeats: {figures.shown}); the next epoch continues with them"
    )
    return [line + (f", but {never} of a rare size are never used; raise num_repeats of the train images" if never else "")]
