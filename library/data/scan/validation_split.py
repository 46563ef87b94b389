"""Separates validation images from training images, as a function of seed and file names only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from library.data.config.blueprint import DatasetBlueprint, SubsetOptions
from library.data.scan.caption_files import in_order, with_affixes
from library.data.scan.records import ImageRecord, Scan
from library.errors import UserError, coded
from library.seeds import fold


def split_validation(scan: Scan) -> tuple[Scan, Scan | None]:
    """(training scan, validation scan or None): takes the share `validation_split` of each subset for validation.

    Adding or removing an image moves at most one other image between the two. An image used by several subsets or datasets is removed from
    all of them. Validation shows images and captions unchanged and once: no repeats, flips, random crops, dropout or shuffling.
    Regularization images are never split. Raises UserError if no training image is left.
    """
    chosen = {record.path for subset in scan.blueprint.subsets() for record in _chosen(scan, subset)}
    if not chosen:
        return scan, None
    left = [record for record in scan.records if record.path not in chosen or record.subset.is_reg]
    if not any(not record.subset.is_reg for record in left):
        raise UserError(
            coded(
                "DATA-014",
                "--validation_split: takes every image for validation and leaves none to train on; give a smaller share, e.g. 0.1",
            )
        )
    return _of(left, scan.blueprint, scan.findings), _shown_plainly(scan, chosen)


def only_validated(scan: Scan) -> Scan:
    """The validation images of `split_validation`, or all images if the config sets none apart; for programs that do not train.

    Raises UserError if there are only regularization images.
    """
    chosen = {record.path for subset in scan.blueprint.subsets() for record in _chosen(scan, subset)}
    apart = _shown_plainly(scan, chosen or {record.path for record in scan.records})
    if not apart.records:
        raise UserError(coded("DATA-014", "there are regularization images alone, of which no loss is measured; give other images"))
    return apart


def _shown_plainly(scan: Scan, chosen: Container[Path]) -> Scan:
    """The chosen images with the settings of validation."""
    plain = {id(subset): _plain(subset) for subset in scan.blueprint.subsets()}
    datasets = tuple(replace(spec, subsets=tuple(plain[id(subset)] for subset in spec.subsets)) for spec in scan.blueprint.datasets)
    apart = [
        replace(one, subset=plain[id(one.subset)], caption=_whole(one))
        for one in scan.records
        if one.path in chosen and not one.subset.is_reg
    ]
    return _of(apart, replace(scan.blueprint, datasets=datasets, findings=()), ())


def _of(records: list[ImageRecord], blueprint: DatasetBlueprint, findings: tuple[str, ...]) -> Scan:
    """A scan of these records, without datasets that have no training images left."""
    numbers = sorted({record.dataset for record in records if not record.subset.is_reg})
    places = {number: place for place, number in enumerate(numbers)}
    remaining = tuple(replace(record, dataset=places[record.dataset]) for record in records if record.dataset in places)
    return Scan(replace(blueprint, datasets=tuple(blueprint.datasets[number] for number in numbers)), remaining, findings)


def _chosen(scan: Scan, subset: SubsetOptions) -> list[ImageRecord]:
    """The validation images of this subset: at least one, but not all of several unless the share is 1."""
    if subset.is_reg or not subset.validation_split:
        return []
    by_name: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in scan.records:
        if record.subset is subset:
            by_name[record.key.split("/", 2)[2]].append(record)
    if subset.validation_split == 1:
        count = len(by_name)
    else:
        count = min(max(1, int(len(by_name) * subset.validation_split + 0.5)), len(by_name) - 1)
    order = sorted(by_name, key=lambda name: (fold(subset.validation_seed, "validation", name), name))
    return [record for name in order[: max(0, count)] for record in by_name[name]]


def _whole(record: ImageRecord) -> str:
    """The caption with all its tags in order; `keep_tokens_separator` is removed if tags move."""
    text = with_affixes(record.caption, record.subset)
    return "\n".join(in_order(line, record.subset) for line in text.split("\n")) if record.subset.moves_tags else text


def _plain(subset: SubsetOptions) -> SubsetOptions:
    """The subset with the settings of validation."""
    return replace(
        subset,
        num_repeats=1,
        shuffle_caption=False,
        caption_prefix="",  # already part of the caption
        caption_suffix="",
        caption_dropout_rate=0.0,
        caption_dropout_every_n_epochs=0,
        caption_tag_dropout_rate=0.0,
        token_warmup_step=0.0,
        flip_aug=False,
        color_aug=False,
        random_crop=False,
        face_crop_aug_range=None,
        loss_weight=1.0,
    )
