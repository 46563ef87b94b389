"""Finds images whose masks leave nothing to train before the run starts: reports them, or refuses if no image is left."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from library.data.batching.buckets import FilledData, Placement
from library.data.pixels.decode import decode
from library.data.pixels.images import crop_corner
from library.data.scan.image_headers import open_image
from library.data.scan.records import ImageRecord
from library.data.scan.scan_index import ScanIndex
from library.errors import Problem, UserError, coded
from library.words import counted, named, verb

_THREADS = 8


Extent = TypeVar("Extent", bound="MaskExtent")


@dataclass(frozen=True)
class MaskExtent:
    """Bounding box (left, top, right, bottom) of all pixels of a mask that are not black.

    `size` is (width, height) in pixels; the box is empty if the mask is black.
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int]

    @classmethod
    def from_values(cls: type[Extent], values: Sequence[Any]) -> Extent | None:
        """The fact with these fields, in order; None if the values are invalid."""
        match values:
            case [[int(width), int(height)], [int(left), int(top), int(right), int(bottom)]] if width > 0 < height:
                return cls((width, height), (left, top, right, bottom))
        return None

    @property
    def dark(self) -> bool:
        """Whether the mask is entirely black."""
        return self.box[0] >= self.box[2]

    def within(self, placement: Placement, corner: tuple[int, int]) -> bool:
        """Whether any part is in the crop that starts at `corner` of the resized image."""
        for side in range(2):
            scale = placement.resized[side] / self.size[side]
            if self.box[side + 2] * scale <= corner[side] or self.box[side] * scale >= corner[side] + placement.bucket[side]:
                return False
        return True


@dataclass(frozen=True)
class OpacityExtent(MaskExtent):
    """Extent of an image's own opacity."""


def with_masks_seen(filled: FilledData) -> FilledData:
    """Add a finding about train images whose masks leave nothing to train; raises UserError if no image is left."""
    train = [(record, place) for record, place in zip(filled.records, filled.placements, strict=True) if not record.subset.is_reg]
    masked = [(record, place) for record, place in train if record.mask is not None or record.subset.alpha_mask]
    index = ScanIndex()
    with ThreadPoolExecutor(_THREADS) as pool:
        extents = list(pool.map(lambda one: _extent(one[0], index), masked))
    index.save()
    dark = [record for (record, _), extent in zip(masked, extents, strict=True) if extent is not None and extent.dark]
    cut_off = [
        record
        for (record, place), extent in zip(masked, extents, strict=True)
        if extent is not None and not extent.dark and not _shows(record, place, extent)
    ]
    lines = [
        *_line(dark, "entirely black", "white is trained and black is not: invert them, or remove these images"),
        *_line(cut_off, "white only outside the crop", "crop these images yourself, or set enable_bucket"),
    ]
    if lines and len(dark) + len(cut_off) == len(train):
        raise UserError(*lines)
    return replace(filled, findings=(*filled.findings, *lines))


def _line(records: list[ImageRecord], why: str, remedy: str) -> list[Problem]:
    if not records:
        return []
    names = named([record.path.name for record in records])
    return [
        coded(
            "DATA-011",
            f"--masked_loss: {counted(len(records), 'image')} would not be trained at all, because "
            f"{verb(len(records), 'its mask is', 'their masks are')} {why}: {names}; {remedy}",
        )
    ]


def _shows(record: ImageRecord, place: Placement, extent: MaskExtent) -> bool:
    subset = record.subset
    return subset.random_crop or subset.face_crop_aug_range is not None or extent.within(place, crop_corner(subset, place, None))


def _extent(record: ImageRecord, index: ScanIndex) -> MaskExtent | None:
    """None if the file is unreadable, which is reported when it is loaded."""
    try:
        if record.mask is not None:
            return index.fact(record.mask, MaskExtent, _of_mask)
        return index.fact(record.path, OpacityExtent, _of_opacity)
    except Exception:  # PIL raises many kinds of exceptions for damaged files
        return None


def _of_mask(path: Path) -> MaskExtent:
    mask = decode(path, profiles=False).on((0, 0, 0)).convert("L")
    return MaskExtent(mask.size, mask.getbbox() or (0, 0, 0, 0))


def _of_opacity(path: Path) -> OpacityExtent:
    with open_image(path) as image:
        if not image.has_transparency_data:
            return OpacityExtent(image.size, (0, 0, *image.size))
    alpha = decode(path).alpha
    assert alpha is not None
    return OpacityExtent(alpha.size, alpha.getbbox() or (0, 0, 0, 0))
