"""Bucket table of the report: how many images share a size, how many are enlarged and how much is cropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from library.data.batching.buckets import FilledData, Placement
from library.data.config.blueprint import Size
from library.data.scan.findings import NOTE, WARNING, Finding
from library.data.scan.records import ImageRecord
from library.words import counted, named

SMALL_SIDE = 128  # pixels
MUCH_CUT = 0.25  # share of an image's area
MUCH_ENLARGED = 1.5  # factor in each direction
_WORST = 3  # images named per bucket


@dataclass(frozen=True)
class BucketFacts:
    """One bucket of one dataset. Shares count files, not showings.

    `worst` are (index of record, share cropped), largest share first.
    """

    dataset: int
    size: Size
    images: int
    shown: int  # per epoch, including regularization images
    batches: int  # per epoch, of all processes together
    enlarged: int  # number of images
    cropped: int  # number of images of which any part is cropped
    mean_cut: float  # share of the area, averaged over all its images
    worst: tuple[tuple[int, float], ...]


def bucket_facts(filled: FilledData, processes: int = 1) -> list[BucketFacts]:
    """The facts of every bucket that is trained, in the order of the plan."""
    facts = []
    for bucket in filled.buckets:
        if not bucket.count:
            continue
        members = list(dict.fromkeys([*(record for record, _ in bucket.train), *(bucket.pool.records if bucket.drawn else ())]))
        cuts = {index: cut(filled.placements[index]) for index in members}
        size = filled.blueprint.datasets[bucket.dataset].options.batch_size * processes
        facts.append(
            BucketFacts(
                dataset=bucket.dataset,
                size=bucket.size,
                images=len(members),
                shown=bucket.count,
                batches=-(-bucket.count // size),
                enlarged=sum(enlargement(filled.records[index], filled.placements[index]) > 1 for index in members),
                cropped=sum(share > 0 for share in cuts.values()),
                mean_cut=sum(cuts.values()) / len(members),
                worst=tuple(sorted(((index, share) for index, share in cuts.items() if share), key=lambda one: -one[1])[:_WORST]),
            )
        )
    return facts


def cut(placement: Placement) -> float:
    """The share of the resized image outside the bucket."""
    (width, height), (whole_width, whole_height) = placement.bucket, placement.resized
    return 1 - width * height / (whole_width * whole_height)


def enlargement(record: ImageRecord, placement: Placement) -> float:
    """The factor by which the image is enlarged; below 1 it is reduced. A pixel added by rounding is ignored."""
    grown = max(scaled / side for scaled, side in zip(placement.resized, record.size, strict=True))
    return 1.0 if all(scaled <= side + 1 for scaled, side in zip(placement.resized, record.size, strict=True)) and grown > 1 else grown


def small_images(filled: FilledData) -> Iterator[Finding]:
    """Images with so few pixels that enlarging blurs them; those that are not enlarged are left out."""
    files = {
        record.path: record.size
        for record, placement in zip(filled.records, filled.placements, strict=True)
        if min(record.size) < SMALL_SIDE and enlargement(record, placement) > 1
    }
    if files:
        shown = named([f"{path.name} ({width}×{height})" for path, (width, height) in files.items()])
        yield Finding(
            WARNING,
            f"{counted(len(files), 'image')} with a side under {SMALL_SIDE} px: {shown}",
            "they look blurred when enlarged: use larger ones",
            tuple(f"{path} ({width}×{height})" for path, (width, height) in files.items()),
        )


def bucket_findings(filled: FilledData, facts: list[BucketFacts], processes: int = 1) -> Iterator[Finding]:
    """Findings on images that are small, lose much or are enlarged much, and on incomplete batches."""
    yield from small_images(filled)
    cuts = [(cut(placement), record) for record, placement in zip(filled.records, filled.placements, strict=True)]
    much = sorted(((share, record) for share, record in cuts if share > MUCH_CUT), key=lambda one: (-one[0], one[1].path))
    if much:
        remedy = "crop these images yourself to the part that matters"
        if not all(spec.options.enable_bucket for spec in filled.blueprint.datasets):
            remedy = "set enable_bucket = true (--enable_bucket), so that images keep their aspect ratio"
        yield Finding(
            WARNING,
            f"{counted(len(much), 'image')} losing more than {MUCH_CUT:.0%} when cropped: "
            + named([f"{record.path.name} ({share:.0%})" for share, record in much]),
            remedy,
            tuple(f"{record.path} ({share:.0%} cut off)" for share, record in much),
        )
    grown = [(enlargement(record, placement), record) for record, placement in zip(filled.records, filled.placements, strict=True)]
    small = sorted(
        ((times, record) for times, record in grown if times > MUCH_ENLARGED and min(record.size) >= SMALL_SIDE),
        key=lambda one: (-one[0], one[1].path),
    )
    if small:
        yield Finding(
            WARNING,
            f"{counted(len(small), 'image')} enlarged more than {MUCH_ENLARGED:g} times: "
            + named([f"{record.path.name} ({times:.1f}×)" for times, record in small]),
            "use larger ones, lower resolution, or set bucket_no_upscale = true",
            tuple(f"{record.path} ({record.size[0]}×{record.size[1]}, {times:.2f}×)" for times, record in small),
        )
    room = [one.batches * filled.blueprint.datasets[one.dataset].options.batch_size * processes for one in facts]
    short = [one for one, images in zip(facts, room, strict=True) if one.shown * 2 < images]
    if short:
        yield Finding(
            NOTE,
            f"{counted(len(short), 'bucket')} with batches less than half full: "
            + named([f"{one.size[0]}×{one.size[1]} ({counted(one.shown, 'image')} an epoch)" for one in short]),
            "a larger bucket_reso_steps gives fewer, fuller buckets",
        )
