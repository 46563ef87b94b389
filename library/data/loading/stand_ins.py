"""Replaces an image that is no longer readable by another one of its bucket, chosen by the showing's seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from library.data.batching.buckets import FilledData, Placement, cover
from library.data.batching.sampler import SampleRequest
from library.seeds import python_rng

MOST = 20  # attempts per showing; if this many fail, the images are not the cause


def stand_ins(filled: FilledData, request: SampleRequest, any_size: bool) -> Iterator[tuple[SampleRequest, Placement]]:
    """Showings to try instead of `request`, best first, each with its placement.

    They use images of the same dataset, bucket and kind (training or regularization). With `any_size`, if the bucket has no other image,
    images of other buckets follow, scaled to cover this one. They keep the seed and weight of `request`, so a run with the same unreadable
    images is reproducible.
    """
    missing = filled.records[request.record]
    bucket = filled.placements[request.record].bucket
    others = [
        index
        for index, record in enumerate(filled.records)
        if record.dataset == missing.dataset and record.subset.is_reg == missing.subset.is_reg and record.path != missing.path
    ]
    same = [index for index in others if filled.placements[index].bucket == bucket]
    chosen = same or (others if any_size else [])
    rng = python_rng(request.seed, "stand-in")
    for index in rng.sample(chosen, min(MOST, len(chosen))):
        place = filled.placements[index]
        yield replace(request, record=index), place if place.bucket == bucket else cover(filled.records[index].size, bucket)
