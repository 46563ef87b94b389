"""The `ss_*` keys about images, captions and buckets, for programs that show how a network was trained (SPEC R7)."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from library.data.batching.buckets import FilledData
from library.data.config.blueprint import DatasetSpec, SubsetOptions


def data_metadata(data: FilledData, processes: int) -> dict[str, Any]:
    """`ss_datasets` with one entry per dataset; with a single dataset also the flat keys of older programs."""
    values: dict[str, Any] = {
        "ss_num_train_images": sum(figures.shown for figures in data.figures),
        "ss_num_reg_images": sum(figures.reg_shown for figures in data.figures),
        "ss_datasets": [_dataset(data, number, spec) for number, spec in enumerate(data.blueprint.datasets)],
    }
    if len(data.blueprint.datasets) == 1:
        spec = data.blueprint.datasets[0]
        values |= {
            "ss_batch_size_per_device": spec.options.batch_size,
            "ss_total_batch_size": spec.options.batch_size * processes,
            "ss_resolution": str(spec.options.resolution),
            "ss_enable_bucket": spec.options.enable_bucket,
            "ss_bucket_no_upscale": spec.options.bucket_no_upscale,
            "ss_min_bucket_reso": spec.options.min_bucket_reso,
            "ss_max_bucket_reso": spec.options.max_bucket_reso,
            "ss_bucket_reso_steps": spec.options.bucket_reso_steps,
            "ss_bucket_info": _bucket_info(data, 0),
            "ss_color_aug": any(subset.color_aug for subset in spec.subsets),
            "ss_flip_aug": any(subset.flip_aug for subset in spec.subsets),
            "ss_random_crop": any(subset.random_crop for subset in spec.subsets),
            "ss_shuffle_caption": any(subset.shuffle_caption for subset in spec.subsets),
            "ss_keep_tokens": max(subset.keep_tokens for subset in spec.subsets),
            "ss_dataset_dirs": _folders(data, spec, regularization=False),
            "ss_reg_dataset_dirs": _folders(data, spec, regularization=True),
        }
    values["ss_tag_frequency"] = tag_frequency(data)
    return values


def tag_frequency(data: FilledData, dataset: int | None = None) -> dict[str, dict[str, int]]:
    """{folder: {tag: images that have it}}, tags in lower case, most frequent first; of all datasets, or of one."""
    counts: dict[str, Counter[str]] = {}
    for subset, records in groupby(data.records, attrgetter("subset")):
        separator = subset.caption_separator
        parts: Counter[str] = Counter()  # before stripping and lowercasing, which is then done once per distinct part
        for record in records:
            if dataset in (None, record.dataset):
                parts.update(record.caption.replace("\n", separator).split(separator))
        if parts:
            counter = counts.setdefault(_folder_name(subset), Counter())
            for part, times in parts.items():
                if tag := part.strip().lower():
                    counter[tag] += times
    return {folder: dict(counter.most_common()) for folder, counter in counts.items()}


def _dataset(data: FilledData, number: int, spec: DatasetSpec) -> dict[str, Any]:
    figures = data.figures[number]
    return {
        "is_dreambooth": not any(subset.metadata_file for subset in spec.subsets),
        "batch_size_per_device": spec.options.batch_size,
        "num_train_images": figures.shown,
        "num_reg_images": figures.reg_shown,
        "resolution": list(spec.options.resolution),
        "enable_bucket": spec.options.enable_bucket,
        "min_bucket_reso": spec.options.min_bucket_reso,
        "max_bucket_reso": spec.options.max_bucket_reso,
        "bucket_reso_steps": spec.options.bucket_reso_steps,
        "bucket_no_upscale": spec.options.bucket_no_upscale,
        "network_multiplier": spec.options.network_multiplier,
        "tag_frequency": tag_frequency(data, number),
        "bucket_info": _bucket_info(data, number),
        "subsets": [_subset(data, subset) for subset in spec.subsets],
    }


def _subset(data: FilledData, subset: SubsetOptions) -> dict[str, Any]:
    return {
        "img_count": data.images_of.get(subset, 0),
        "num_repeats": subset.num_repeats,
        "color_aug": subset.color_aug,
        "flip_aug": subset.flip_aug,
        "random_crop": subset.random_crop,
        "shuffle_caption": subset.shuffle_caption,
        "keep_tokens": subset.keep_tokens,
        "keep_tokens_separator": subset.keep_tokens_separator,
        "secondary_separator": subset.secondary_separator or None,
        "enable_wildcard": subset.enable_wildcard,
        "caption_prefix": subset.caption_prefix or None,
        "caption_suffix": subset.caption_suffix or None,
        "resize_interpolation": subset.resize_interpolation,
        "image_dir": _folder_name(subset),
        "class_tokens": subset.class_tokens,
        "is_reg": subset.is_reg,
        **({"metadata_file": Path(subset.metadata_file).name} if subset.metadata_file else {}),
    }


def _folders(data: FilledData, spec: DatasetSpec, regularization: bool) -> dict[str, dict[str, int]]:
    chosen = [subset for subset in spec.subsets if subset.is_reg == regularization]
    return {_folder_name(subset): {"n_repeats": subset.num_repeats, "img_count": data.images_of.get(subset, 0)} for subset in chosen}


def _bucket_info(data: FilledData, number: int) -> dict[str, Any]:
    """The buckets, and how much the images' aspect ratios (width / height) differ from their buckets' on average."""
    pairs = zip(data.records, data.placements, strict=True)
    errors = [abs(_aspect(place.bucket) - _aspect(record.size)) for record, place in pairs if record.dataset == number]
    buckets = {str(place): {"resolution": list(size), "count": count} for place, (size, count) in enumerate(data.figures[number].buckets)}
    return {"buckets": buckets, "mean_img_ar_error": sum(errors) / len(errors) if errors else 0.0}


def _aspect(size: tuple[int, int]) -> float:
    """Width / height."""
    return size[0] / size[1]


def _folder_name(subset: SubsetOptions) -> str:
    """The folder's name without the path to it, which is private."""
    return Path(subset.image_dir or subset.metadata_file or "").name
