"""Findings only for the report: folders, captions and images that can be trained, but probably not as intended."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from library.data.config.blueprint import SubsetOptions
from library.data.config.nearby_paths import folder_contents
from library.data.inspection.duplicates import Candidate, Digest, Group, find_groups
from library.data.inspection.first_visit import in_threads
from library.data.inspection.image_signature import Look, look_at
from library.data.scan.caption_files import split_tags
from library.data.scan.findings import ERROR, NOTE, WARNING, Finding
from library.data.scan.folder_findings import captions_beside
from library.data.scan.image_headers import Header, Unreadable, read_header
from library.data.scan.image_notes import CONVERTED
from library.data.scan.records import ImageRecord, Survey
from library.data.scan.scan_index import ScanIndex
from library.errors import coded
from library.files import is_image, names_image, sha256
from library.words import counted, named

_FORMATS = {
    ".png": ("PNG",),
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".webp": ("WEBP",),
    ".bmp": ("BMP", "DIB"),
    ".gif": ("GIF",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".avif": ("AVIF",),
    ".heic": ("HEIF", "HEIC"),
    ".heif": ("HEIF", "HEIC"),
    ".jxl": ("JXL",),
}


def inspect(survey: Survey, index: ScanIndex) -> Iterator[Finding]:
    """All findings about folders, captions and images. Decodes every image that `index` does not know, and adds it to `index`."""
    for subset in survey.blueprint.subsets():
        if subset.image_dir is not None and not subset.metadata_file:
            yield from _folder(subset, index)
    for subset, records in _by_subset(survey.records):
        yield from _tags(subset, records)
    yield from _images(survey.records, index)


def _by_subset(records: Sequence[ImageRecord]) -> list[tuple[SubsetOptions, list[ImageRecord]]]:
    groups: dict[int, list[ImageRecord]] = {}
    for record in records:
        groups.setdefault(id(record.subset), []).append(record)
    return [(mine[0].subset, mine) for mine in groups.values()]


def _about(level: str, files: Iterable[Path | str], what: str, remedy: str) -> Iterator[Finding]:
    """A finding about these files, if there are any; `what` contains {} for '3 images'."""
    paths = [str(file) for file in files]
    if paths:
        text = f"{what.format(counted(len(paths), 'image'))}: {named([os.path.basename(path) for path in paths])}"  # noqa: PTH119
        yield Finding(level, text, remedy, tuple(paths))


def _folder(subset: SubsetOptions, index: ScanIndex) -> Iterator[Finding]:
    """Findings on files in a folder with caption files that are not used, or not as a user would expect."""
    folder = subset.image_dir
    assert folder is not None
    try:
        names = index.names(folder)
        below = {name: images for name, images in folder_contents(folder)[1].items() if images}
    except OSError:
        return  # already reported
    images = sorted(filter(names_image, names))
    beside = captions_beside(images, subset.caption_extension, names)
    captions = {image: caption for image, caption in zip(images, beside, strict=True) if caption}
    place = subset.place
    if below:
        listed = named([f"'{name}' ({counted(count, 'image')})" for name, count in below.items()])
        yield Finding(WARNING, f"{place}: folders inside '{folder}' are not read: {listed}", "make each a separate subset")
    hidden = sorted(name for name in names if name[0] == "." and names_image(name[1:]))
    if hidden:
        remedy = "remove the dots from their names to train on them; files named ._* are not images but macOS metadata"
        yield Finding(NOTE, f"{place}: {counted(len(hidden), 'hidden image')} ignored: {named(hidden)}", remedy)
    used = set(captions.values())
    extension = subset.caption_extension
    spare = sorted(name for name in names if extension and name.endswith(extension) and name[0] != "." and name not in used)
    if spare:
        files = tuple(str(folder / name) for name in spare)
        what = f"{place}: {counted(len(spare), 'caption file')} without an image: {named(spare)}"
        yield Finding(WARNING, what, "give image and caption the same name, or remove the files", files)
    yield from _caption_files(subset, captions)
    if subset.class_tokens and images and len(captions) == len(images):
        what = f"{place}: class_tokens '{subset.class_tokens}' is not used: every image has a caption file"
        yield Finding(NOTE, what, "write these words into the captions if they should be learned")


def _caption_files(subset: SubsetOptions, captions: dict[str, str]) -> Iterator[Finding]:
    shared = [name for name, used in Counter(captions.values()).items() if used > 1]
    if shared:
        what = f"{subset.place}: {counted(len(shared), 'caption file')} shared by several images of the same name: {named(sorted(shared))}"
        yield Finding(WARNING, what, "rename one of these images and its caption if their texts should differ")


def _tags(subset: SubsetOptions, records: list[ImageRecord]) -> Iterator[Finding]:
    """Caption options that have no effect on these captions."""
    asked = [name for name in ("shuffle_caption", "caption_tag_dropout_rate", "token_warmup_step") if getattr(subset, name)]
    texts = {record.caption for record in records if record.caption} - {subset.class_tokens}
    if asked and texts and all(len(split_tags(text, subset.caption_separator)) <= max(1, subset.keep_tokens) for text in texts):
        most = counted(max(1, subset.keep_tokens), "tag")
        what = f"{subset.place}: {' and '.join(asked)} has no effect: no caption has more than {most}"
        yield Finding(WARNING, what, "separate tags with commas, or lower keep_tokens")


def _images(records: Sequence[ImageRecord], index: ScanIndex) -> Iterator[Finding]:
    # images used by two datasets are decoded once, records with only latents not at all
    first = {path: record for record in reversed(records) if is_image(path := record.path)}
    images = dict(sorted(first.items(), key=lambda item: item[0].as_posix()))
    headers = {path: index.fact(path, Header, read_header) for path in images}

    def those(condition: Callable[[Path, Header], bool]) -> list[Path]:
        return [path for path, header in headers.items() if condition(path, header)]

    yield from _about(
        NOTE,
        those(lambda path, header: header.format not in _FORMATS.get(path.suffix.lower(), ())),
        "{} in another format than the name says",
        "no action needed: the content decides",
    )
    yield from _about(
        NOTE, those(lambda _, header: header.orientation != 1), "{} rotated upright, as the camera recorded", "no action needed"
    )
    yield from _about(
        WARNING,
        those(lambda _, header: header.frames > 1),
        "{} with several frames; only the first is trained on",
        "save the intended frame as a separate image",
    )
    yield from _about(
        NOTE,
        those(lambda _, header: header.mode in ("CMYK", "YCCK") and header.colour != CONVERTED),
        "{} in print colours (CMYK) without a profile, which may look different on a screen",
        "save them as RGB and check them",
    )
    yield from _looks(images, index)


def _looks(images: Mapping[Path, ImageRecord], index: ScanIndex) -> Iterator[Finding]:
    looks, broken = _look_at_all(list(images), index)
    for path, reason in broken.items():
        line = coded("DATA-001", f"image {path}: cannot be decoded: {reason}; remove or replace it").line
        yield Finding.from_line(ERROR, line, (str(path),))
    yield from _about(
        NOTE,
        [path for path, look in looks.items() if look.clear],
        "{} with transparent parts, which are trained as white",
        "give them another background if white is not intended",
    )
    yield from _about(
        WARNING,
        [path for path, look in looks.items() if look.flat],
        "{} in a single colour",
        "remove them: they teach nothing",
    )
    seen = [path for path in images if path in looks and not looks[path].flat]
    candidates = [Candidate(path, images[path].size, index.length(path), looks[path].signature) for path in seen]
    yield from _duplicates(
        [(path, images[path].subset.is_reg) for path in seen],
        find_groups(candidates, lambda path: index.fact(path, Digest, _digest).sha256),
    )


def _look_at_all(paths: list[Path], index: ScanIndex) -> tuple[dict[Path, Look], dict[Path, str]]:
    """The looks of all images, decoded in several threads unless the index knows them, and the errors of unreadable images."""
    looks = {path: look for path in paths if (look := index.known(path, Look))}
    broken: dict[Path, str] = {}
    for path, result in in_threads([path for path in paths if path not in looks], _look):
        if isinstance(result, str):
            broken[path] = result
        else:
            looks[path] = result
            index.remember(path, result)
    return {path: looks[path] for path in paths if path in looks}, broken


def _digest(path: Path) -> Digest:
    return Digest(sha256(path))


def _look(path: Path) -> Look | str:
    try:
        return look_at(path)
    except Unreadable as fault:
        return str(fault)


def _duplicates(images: Sequence[tuple[Path, bool]], groups: list[Group]) -> Iterator[Finding]:
    """Findings on duplicates among images of the same kind, and on training images that are also regularization images (True)."""
    both: list[list[Path]] = []
    same: list[list[Path]] = []
    alike: list[list[Path]] = []
    for group in groups:
        kinds = {images[index][1] for index in group.members}
        (both if len(kinds) > 1 else same if group.identical else alike).append([images[index][0] for index in group.members])
    for level, duplicates, what, remedy in (
        (WARNING, both, "trained on and used as regularization images at once", "remove them from the regularization images"),
        (WARNING, same, "identical, to the last byte", "remove the copies; to give an image more weight, raise num_repeats"),
        (WARNING, alike, "the same image in another size, format or quality", "keep the best one of each"),
    ):
        if duplicates:
            shown = named([" = ".join(path.name for path in paths[:4]) + (" = …" if len(paths) > 4 else "") for paths in duplicates])
            text = f"{counted(sum(map(len, duplicates)), 'image')} in {counted(len(duplicates), 'group')} {what}: {shown}"
            yield Finding(level, text, remedy, tuple(" = ".join(map(str, paths)) for paths in duplicates))
