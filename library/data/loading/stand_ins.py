"""What is shown in the place of an image that cannot be read any more: another one of its bucket, chosen by the draw's own seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from library.data.batching.buckets import FilledData, Placement, cover
from library.data.batching.sampler import SampleRequest
from library.seeds import python_rng

MOST = 20  # tried for one draw; when so many cannot be read, it is not the images


def stand_ins(filled: FilledData, request: SampleRequest, any_size: bool) -> Iterator[tuple[SampleRequest, Placement]]:
    """The draws to try instead of `request`, best first, each with its place: images of its dataset, its bucket and its kind (training
    or regularization); with `any_size`, where there is no other in the bucket, those of other buckets scaled to cover this one.

    They keep the seed and the weight of `request`, so a run with the same unreadable images is the same run.
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
