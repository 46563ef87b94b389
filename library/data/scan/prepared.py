"""Uses the sizes in metadata: if every image has a train_resolution, it decides the buckets of the subset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from library.data.config.blueprint import AS_PREPARED, DatasetBlueprint, DatasetSpec, Size, SubsetOptions
from library.data.scan.findings import WARNING, Finding
from library.errors import Problem, coded
from library.words import counted, named

Sizes = Sequence[tuple[str, Size | None]]  # (image name, train_resolution) of each image in a subset


def judged(subset: SubsetOptions, sizes: Sizes, resolution: Size) -> tuple[SubsetOptions, Problem | None, Finding | None]:
    """The subset with `as_prepared` set, and an error or finding that names the images without a train_resolution."""
    without = [name for name, size in sizes if size is None]
    if not without:
        return replace(subset, as_prepared=bool(sizes)), None, None
    missing = resolution == AS_PREPARED
    if len(without) == len(sizes) and not missing:
        return subset, None, None
    flags = subset.place.startswith("--")
    text = f"{subset.place}: no train_resolution for {len(without)} of {counted(len(sizes), 'image')} ({named(without)}), so its sizes"
    steps = "remove them from the file, prepare them with finetune/prepare_buckets_latents.py"
    if missing:
        add = "add --resolution 512" if flags else "add resolution = 512 under [[datasets]] or [general]"
        return subset, coded("DATA-017", f"{text} cannot be used; {steps}, or {add}"), None
    text += f" are not used and all images use {'--' if flags else ''}resolution"
    return subset, None, Finding(WARNING, text, f"{steps} to use the sizes of the metadata", tuple(without))


def with_sizes(blueprint: DatasetBlueprint, subsets: Sequence[Sequence[SubsetOptions]], largest: Sequence[Size | None]) -> DatasetBlueprint:
    """The blueprint with the judged subsets.

    If all subsets of a dataset are prepared, it uses buckets and gets its `largest` size as resolution.
    """
    specs = []
    for spec, mine, size in zip(blueprint.datasets, subsets, largest, strict=True):
        options = spec.options
        if size is not None and all(subset.as_prepared for subset in mine):
            options = replace(options, resolution=size, enable_bucket=True)
        specs.append(DatasetSpec(options, tuple(mine)))
    return replace(blueprint, datasets=tuple(specs))
