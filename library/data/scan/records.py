"""Scans every image of a blueprint for size and caption, and reports all errors at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from library.data.config.blueprint import DatasetBlueprint, Size, SubsetOptions
from library.data.config.nearby_paths import other_files
from library.data.scan.caption_files import (
    CaptionFile,
    CaptionLines,
    caption_findings,
    length_fault,
    read_caption,
    read_lines,
    split_tags,
    with_affixes,
)
from library.data.scan.findings import NOTE, WARNING, Finding
from library.data.scan.folder_findings import captions_beside, further_lines, other_commas, other_scripts, unread, without_caption
from library.data.scan.image_headers import Header, Unreadable, read_header
from library.data.scan.image_notes import CONVERTED, UNUSABLE
from library.data.scan.prepared import judged, with_sizes
from library.data.scan.scan_index import ScanIndex
from library.errors import Problem, UserError, coded
from library.files import is_image, listed_files, names_image
from library.paths.faults import unopened
from library.paths.listing import passed_over
from library.words import counted, named

LARGE_SIDE = 3000  # pixels


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of one subset. `size` (width, height) in pixels after EXIF rotation; `key` identifies it for random choices.

    The folder is one object for all its images: a Path for each image takes 290 bytes more.
    """

    folder: Path
    name: str  # of the file below `folder`
    size: tuple[int, int]
    caption: str
    subset: SubsetOptions
    dataset: int
    key: str  # dataset/subset/relative path: the same on every machine, and independent of other images
    train_resolution: tuple[int, int] | None = None  # from a metadata file
    mask: Path | None = None  # where its loss counts; from its subset's conditioning_data_dir
    converted: bool = False  # its colour profile is converted to sRGB
    fill_mask: Path | None = None  # the area that an inpainting model fills in, from the same folder; None: random for each showing

    @property
    def path(self) -> Path:
        """The image file."""
        return self.folder / self.name


@dataclass(frozen=True)
class Scan:
    """The records of all datasets in a stable order.

    `findings` are lines to report that stop nothing; `unreadable` are lines about images that were left out.
    """

    blueprint: DatasetBlueprint
    records: tuple[ImageRecord, ...]
    findings: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """Result of a scan, with or without errors: records of all readable images, errors that stop the run, and other findings."""

    blueprint: DatasetBlueprint
    records: tuple[ImageRecord, ...]
    faults: tuple[Problem, ...]
    findings: tuple[Finding, ...]
    unreadable: tuple[str, ...] = ()

    def checked(self) -> Scan:
        """The Scan; raises UserError with all errors."""
        if self.faults:
            raise UserError(*self.faults)
        return Scan(self.blueprint, self.records, tuple(map(str, self.findings)), self.unreadable)


@dataclass
class _Report:
    index: ScanIndex
    faults: list[Problem] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    # an image used by two datasets is reported once
    unreadable: dict[str, None] = field(default_factory=dict)
    large: dict[str, None] = field(default_factory=dict)
    unusable: dict[str, None] = field(default_factory=dict)  # colour profiles
    converted: set[Path] = field(default_factory=set)


def scan(blueprint: DatasetBlueprint, skip_unreadable: bool = False) -> Scan:
    """Read sizes and captions of all images.

    Raises UserError with all errors: unreadable images (with `skip_unreadable` they are left out and reported instead), captions that are
    missing or not UTF-8, metadata without images.
    """
    index = ScanIndex()
    result = survey(blueprint, index, skip_unreadable)
    index.save()
    return result.checked()


def survey(blueprint: DatasetBlueprint, index: ScanIndex, skip_unreadable: bool = False) -> Survey:
    """Like `scan`, but returns errors instead of raising. Facts in `index` are reused and new ones added; `index` is not saved."""
    report = _Report(index, findings=[Finding.from_line(WARNING, line) for line in blueprint.findings])
    records: list[ImageRecord] = []
    sizes: dict[tuple[int, int], tuple[int, int]] = {}  # shares one tuple among all images of a size
    folders: dict[Path, Path] = {}
    subsets: list[list[SubsetOptions]] = [[] for _ in blueprint.datasets]
    for number, dataset in enumerate(blueprint.datasets):
        for position, subset in enumerate(dataset.subsets):
            report.findings += caption_findings(subset)
            try:
                images = _metadata(subset, report) if subset.metadata_file else _folder(subset, report)
            except UserError as fault:
                report.faults += fault.problems
                subsets[number].append(subset)
                continue
            subset = _as_prepared(subset, images, dataset.options.resolution, report)
            subsets[number].append(subset)
            captions = [(path, with_affixes(caption, subset)) for path, caption, _ in images]
            report.findings += [*other_commas(subset.place, captions), *other_scripts(subset.place, captions)]
            for path, caption, train_resolution in images:
                size = _size(path, report) if is_image(path) else _size_of_latents(path, train_resolution, report)
                if size:
                    folder, name, key = _split(path, subset.image_dir)
                    folder, size = folders.setdefault(folder, folder), sizes.setdefault(size, size)
                    key = f"{number}/{position}/{key}"
                    converted = path in report.converted
                    records.append(ImageRecord(folder, name, size, caption, subset, number, key, train_resolution, converted=converted))
    blueprint = with_sizes(blueprint, subsets, [_largest(records, number) for number in range(len(subsets))])
    _tell_images(report, skip_unreadable)
    if not report.faults and not records:
        report.faults.append(coded("DATA-012", f"{blueprint.subsets()[0].place}: no readable image is left"))
    return Survey(blueprint, tuple(records), tuple(report.faults), tuple(report.findings), tuple(report.unreadable))


_Listed = tuple[Path, str, tuple[int, int] | None]


def _as_prepared(subset: SubsetOptions, images: list[_Listed], resolution: Size, report: _Report) -> SubsetOptions:
    """The subset with `as_prepared` according to its metadata; errors and findings are added to the report."""
    if subset.metadata_file is None:
        return subset
    subset, fault, finding = judged(subset, [(path.name, size) for path, _, size in images], resolution)
    report.faults += [fault] if fault else []
    report.findings += [finding] if finding else []
    return subset


def _largest(records: list[ImageRecord], dataset: int) -> Size | None:
    sizes = [record.train_resolution for record in records if record.dataset == dataset and record.train_resolution]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _metadata(subset: SubsetOptions, report: _Report) -> list[_Listed]:
    from library.data.scan.metadata import read_metadata

    assert subset.metadata_file
    folder_key = "--train_data_dir" if subset.place.startswith("--") else "image_dir"
    if subset.image_dir is not None:
        for base, inside in listed_files(subset.image_dir):
            report.findings += unread(subset.place, base, inside)
    entries, findings = read_metadata(subset.metadata_file, subset.image_dir, folder_key, subset)
    report.findings += [Finding.from_line(WARNING, line) for line in findings]
    return [(entry.path, entry.caption, entry.train_resolution) for entry in sorted(entries, key=lambda entry: entry.path.as_posix())]


def _folder(subset: SubsetOptions, report: _Report) -> list[_Listed]:
    assert subset.image_dir
    names = report.index.names(subset.image_dir)
    images = sorted(filter(names_image, names))
    report.findings += [Finding.from_line(WARNING, line) for line in passed_over(subset.image_dir, report.index.special(subset.image_dir))]
    if not images:
        raise UserError(coded("DATA-003", f"{subset.place}: '{subset.image_dir}' has no images: {other_files(subset.image_dir)}"))
    captioned: list[_Listed] = []
    without: list[Path] = []
    empty: list[str] = []
    longer: dict[Path, int] = {}
    paths = [subset.image_dir / name for name in images]
    for image, caption in zip(paths, captions_beside(images, subset.caption_extension, names), strict=True):
        if caption is None:
            without.append(image)
            captioned.append((image, subset.class_tokens or "", None))
            continue
        try:
            whole = report.index.fact_in(subset.image_dir, caption, CaptionFile, read_caption)
            if subset.enable_wildcard:  # each line is a caption then
                whole = CaptionFile(report.index.fact_in(subset.image_dir, caption, CaptionLines, read_lines).text)
        except (OSError, UnicodeDecodeError) as fault:
            beside = subset.image_dir / caption
            not_text = isinstance(fault, UnicodeDecodeError)
            reason = "is not UTF-8; save it again with encoding UTF-8" if not_text else f"{unopened(beside, fault)}; fix or remove it"
            report.faults.append(coded("DATA-004", f"{subset.place}: caption file {beside} {reason}"))
            captioned.append((image, "", None))
            continue
        if too_long := length_fault(whole.text):
            report.faults.append(
                coded("DATA-028", f"{subset.place}: caption file {subset.image_dir / caption} {too_long}, or remove the file")
            )
            captioned.append((image, "", None))
            continue
        if not split_tags(whole.text):
            empty.append(str(subset.image_dir / caption))
        if whole.more:
            longer[subset.image_dir / caption] = whole.more
        captioned.append((image, whole.text, None))
    if empty:
        line = f"{subset.place}: {counted(len(empty), 'caption file')} with an empty first line: {_shown(empty)}"
        remedy = "their images are trained without text; write captions, or delete the files to use class_tokens"
        report.findings.append(Finding(WARNING, line, remedy, tuple(empty)))
    if without and subset.class_tokens is not None and not split_tags(subset.class_tokens):
        line = f"{subset.place}: class_tokens is empty, so {counted(len(without), 'image has', 'images have')} no text to train with"
        report.findings.append(Finding(WARNING, line, "unless that is intended, describe what they show", tuple(map(str, without))))
    if without:
        line_of_fault, finding = without_caption(subset, paths, without, names)
        report.faults += [line_of_fault] if line_of_fault else []
        report.findings += [finding] if finding else []
    report.findings += unread(subset.place, subset.image_dir, names)
    report.findings += further_lines(subset.place, longer)
    return captioned


def _size(path: Path, report: _Report) -> tuple[int, int] | None:
    try:
        header = report.index.fact(path, Header, read_header)
    except Unreadable as fault:
        report.unreadable[f"{path}: {fault}"] = None
        return None
    size = header.size
    if header.colour == CONVERTED:
        report.converted.add(path)
    elif header.colour == UNUSABLE:
        report.unusable[str(path)] = None
    if max(size) > LARGE_SIDE:
        report.large[f"{path} ({size[0]}×{size[1]})"] = None
    return size


def _size_of_latents(path: Path, train_resolution: tuple[int, int] | None, report: _Report) -> tuple[int, int] | None:
    """The size of a missing image whose latents exist."""
    from library.data.scan.latent_headers import read_foreign

    try:
        return read_foreign(path).image or train_resolution
    except (OSError, ValueError) as fault:
        report.unreadable[f"{path}: has no latents ({fault})"] = None
        return None


def left_out(line: str) -> Finding:
    """The finding for one of the `unreadable` lines of `scan`."""
    return Finding(WARNING, f"skipped: image {line}", "remove or replace it")


def _tell_images(report: _Report, skip_unreadable: bool) -> None:
    if skip_unreadable:
        report.findings += map(left_out, report.unreadable)
    else:
        report.faults += [coded("DATA-001", f"image {line}; remove or replace it") for line in report.unreadable]
    for files, level, what, remedy in (
        (report.large, NOTE, f"with a side over {LARGE_SIDE} px", "they are always scaled down; smaller copies would load faster"),
        (report.unusable, NOTE, "with a colour profile that cannot be used", "their values are taken as sRGB: check them"),
    ):
        if files:
            report.findings.append(Finding(level, f"{counted(len(files), 'image')} {what}: {_shown(list(files))}", remedy, tuple(files)))


def _shown(files: list[str]) -> str:
    """The first files, by name only."""
    return named([Path(file).name for file in files])


def _split(path: Path, folder: Path | None) -> tuple[Path, str, str]:
    """The folder of an image, its name below it, and what identifies it in its subset: the path below `folder`, else the whole path."""
    base = "" if folder is None else f"{folder}{os.sep}"
    if folder and str(path).startswith(base):
        name = str(path)[len(base) :]
        return folder, name, name.replace(os.sep, "/")
    inside = folder is not None and path.is_relative_to(folder)
    return path.parent, path.name, (path.relative_to(folder) if folder and inside else path).as_posix()
