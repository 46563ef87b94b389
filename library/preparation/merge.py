"""Merges the caption or tag files next to images into a metadata file; other values in the file stay unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from library.console import log, progress
from library.data.scan.metadata_file import Keys, Metadata, is_full_path, read_metadata_file, write_metadata_file
from library.errors import UserError, coded
from library.options.tool_groups.preparation import MergeOptions
from library.partial_faults import Faults
from library.paths.look import is_file
from library.preparation.text_files import images_of, missing_remark, read_text_file, remark_on_shared_names, text_file_of
from library.renaming import is_there
from library.words import counted


@dataclass(frozen=True)
class Merge:
    """Settings of a merge: `field` is "caption" or "tags"; if `in_json` is None, an existing `out_json` is extended."""

    folder: Path
    out_json: Path
    in_json: Path | None
    field: str
    extension: str
    full_path: bool
    recursive: bool
    show: Callable[[str], None] | None = None  # receives a line for each merged image

    @classmethod
    def from_options(cls, options: MergeOptions, field: str, extension: str) -> Merge:
        """Settings from the command line of one of the two tools."""
        return cls(
            folder=options.train_data_dir,
            out_json=options.out_json,
            in_json=options.in_json,
            field=field,
            extension=extension,
            full_path=options.full_path,
            recursive=options.recursive,
            show=print if options.debug else None,
        )


def merge(settings: Merge) -> Metadata:
    """Read, merge and write; returns the new metadata.

    Raises UserError before writing if the folder or the metadata cannot be used. Raises PartlyDone after writing if text files cannot be
    read: the entries of their images stay unchanged.
    """
    images = images_of(settings.folder, settings.recursive)
    metadata = _start(settings)
    keys = Keys(settings.folder, images, metadata, settings.full_path)
    _remark_on_keys(settings, metadata, images)
    faults = Faults()
    without: list[Path] = []
    merged = 0
    for image in progress(images, label=f"merging {settings.field}", unit="image"):
        beside = text_file_of(image, settings.extension)
        if not is_there(beside):
            without.append(image)
            continue
        try:
            text = one_line(read_text_file(beside), settings.field)
        except UserError as fault:
            for problem in fault.problems:
                faults.add(problem)
            continue
        key = keys.of(image)
        metadata.setdefault(key, {})[settings.field] = text
        merged += 1
        if settings.show:
            settings.show(f"{key}: {text}")
    if not merged:
        remark = [coded("TOOL-002", f"train_data_dir: {missing_remark(without, len(images), settings.extension)}")] if without else []
        raise UserError(*faults.shown(), *remark)
    if without:
        log.warning("%s; skipped", missing_remark(without, len(images), settings.extension))
    write_metadata_file(settings.out_json, metadata, "out_json")
    done = f"{settings.field} of {counted(merged, 'image')} in {settings.out_json}, which has {counted(len(metadata), 'entry', 'entries')}"
    faults.raise_if_any(done, merged)
    log.info("%s", done)
    return metadata


def one_line(text: str, field: str) -> str:
    """The text as one line: lines of a caption are joined by spaces, lines of tags by commas.

    >>> one_line("1girl,\\nsolo\\n", "tags"), one_line(" a dog\\non grass", "caption")
    ('1girl, solo', 'a dog on grass')
    """
    lines = [line for line in (line.strip() for line in text.splitlines()) if line]
    if field == "caption":
        return " ".join(lines)
    return ", ".join(line.strip(", ") if len(lines) > 1 else line for line in lines)


def _start(settings: Merge) -> Metadata:
    """The metadata to merge into: from `in_json`, from an existing `out_json`, or empty."""
    if settings.in_json is not None:
        metadata = read_metadata_file(settings.in_json, "--in_json")
    elif is_file(settings.out_json):
        log.info("%s already exists and is extended", settings.out_json)
        metadata = read_metadata_file(settings.out_json, "out_json")
    else:
        log.info("a new metadata file is created")
        metadata = {}
    return metadata


def _remark_on_keys(settings: Merge, metadata: Metadata, images: list[Path]) -> None:
    """Warn about names shared by two images, and about existing keys of the other kind (full or relative path)."""
    remark_on_shared_names(images, settings.extension)
    other = next((key for key in metadata if is_full_path(key) != settings.full_path), None)
    if other is not None and settings.full_path:
        log.warning("the metadata names images without their folder, such as %r; --full_path would create separate entries", other)
    elif other is not None:
        log.warning("the metadata names images by full path, such as %r; add --full_path to continue like that", other)
