"""Finds the mask of each image, and reports all missing or unsuitable masks before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from library.data.config.blueprint import DatasetBlueprint
from library.data.scan.image_headers import Unreadable, read_header
from library.data.scan.records import ImageRecord, Scan
from library.errors import Problem, UserError, coded
from library.files import compared, is_image
from library.paths.faults import closed_fault
from library.paths.look import is_folder
from library.words import counted, named, verb


def with_masks(scan: Scan, masked_loss: bool, inpainting: bool = False) -> Scan:
    """The scan with `mask` (for `masked_loss`) and `fill_mask` (for `inpainting`) set in records of subsets with `conditioning_data_dir`.

    A mask has the image's relative path with any extension. Raises UserError for images without a mask and masks of another shape. If
    `masked_loss` has no masks at all, everything is trained normally, and a finding reports it.
    """
    findings = [*scan.findings, *_mask_findings(scan.blueprint, masked_loss, inpainting)]
    blueprint = replace(scan.blueprint, inpainting=True) if inpainting else scan.blueprint
    with_files = [subset for subset in scan.blueprint.subsets() if subset.conditioning_data_dir is not None]
    if not masked_loss and not inpainting:
        with_files = []
    faults: list[Problem] = []
    records = scan.records
    for subset in with_files:
        mine = [record for record in records if record.subset is subset]
        masks = _masks_by_key(mine, subset.place, faults)
        records = tuple(_with(record, masks[record.key], masked_loss, inpainting) if record.key in masks else record for record in records)
    if faults:
        raise UserError(*faults)
    return replace(scan, blueprint=blueprint, records=records, findings=tuple(findings))


def _with(record: ImageRecord, mask: Path, masked_loss: bool, inpainting: bool) -> ImageRecord:
    return replace(record, mask=mask if masked_loss else None, fill_mask=mask if inpainting else None)


def _mask_findings(blueprint: DatasetBlueprint, masked_loss: bool, inpainting: bool) -> Iterator[str]:
    """Findings on mask folders that are unused or missing."""
    subsets = blueprint.subsets()
    with_files = [subset for subset in subsets if subset.conditioning_data_dir is not None]
    if not masked_loss:
        if with_files and not inpainting:
            yield f"{named([subset.place for subset in with_files])}: conditioning_data_dir is not used without --masked_loss"
        return
    if not with_files and not any(subset.alpha_mask for subset in subsets):
        yield (
            "--masked_loss: nothing is masked, since no subset has masks; set conditioning_data_dir = '…' with the folder of the mask "
            "images in a subset (--conditioning_data_dir without a config), or use --alpha_mask"
        )
        return
    whole = [subset.place for subset in subsets if subset.conditioning_data_dir is None and not (subset.alpha_mask or subset.is_reg)]
    if whole:
        yield f"{named(whole)}: no conditioning_data_dir and no alpha_mask: these images are trained as a whole"
    both = [subset.place for subset in with_files if subset.alpha_mask]
    if both:
        yield f"{named(both)}: the masks of conditioning_data_dir are used, not alpha_mask"


def _masks_by_key(records: list[ImageRecord], place: str, faults: list[Problem]) -> dict[str, Path]:
    """The mask of each record by its key; appends errors about missing masks and wrong shapes."""
    if not records:
        return {}
    folder = records[0].subset.conditioning_data_dir
    assert folder is not None
    listings: dict[Path, Mapping[str, list[Path]]] = {}
    by_key: dict[str, Path] = {}
    missing: list[str] = []
    for record in records:
        beside = folder / _below(record).parent
        if beside not in listings:
            listings[beside] = _by_stem(beside)
        masks = listings[beside].get(compared(record.path.stem), [])
        if not masks:
            missing.append(record.path.name)
            continue
        mask = next((one for one in masks if one.name == record.path.name), masks[0])
        by_key[record.key] = mask
        problem = _misfit(record, mask)
        if problem:
            faults.append(coded("DATA-010", f"{place}: mask {mask} {problem}"))
    if missing:
        faults.append(
            coded(
                "DATA-009",
                f"{place}: {len(missing)} of {counted(len(records), 'image')} {verb(len(missing), 'has', 'have')} "
                f"no mask with the same name in '{folder}' "
                f"({named(missing)}); add them (all white trains the whole image), or remove these images",
            )
        )
    return by_key


def _below(record: ImageRecord) -> Path:
    """The image's path relative to its subset's folder; only its name if the subset has no folder."""
    folder = record.subset.image_dir
    return record.path.relative_to(folder) if folder and record.path.is_relative_to(folder) else Path(record.path.name)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    by_stem: dict[str, list[Path]] = {}
    if closed := closed_fault(folder, folder=True):
        raise UserError(closed.reworded(f"conditioning_data_dir: {closed}"))
    if is_folder(folder):
        for path in sorted(folder.iterdir()):
            if is_image(path):
                by_stem.setdefault(compared(path.stem), []).append(path)
    return by_stem


def _misfit(record: ImageRecord, mask: Path) -> str | None:
    """What is wrong with the mask's file or shape. Its size may differ, its aspect ratio only by one pixel."""
    try:
        width, height = read_header(mask).size
    except Unreadable as fault:
        return f"{fault}; replace it"
    (image_width, image_height) = record.size
    if abs(width * image_height - height * image_width) > max(width, height, image_width, image_height):
        return f"is {width}×{height} and {record.path.name} is {image_width}×{image_height}; a mask must have the shape of its image"
    return None
