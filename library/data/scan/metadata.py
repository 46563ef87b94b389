"""Metadata files for fine-tuning: reads captions and tags and matches them with the images on disk."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from library.data.config.blueprint import METADATA, DatasetBlueprint, DatasetSpec, SubsetOptions
from library.data.config.build import command_line_values, dataset_options, idle_keys
from library.data.config.check import INVALID
from library.data.config.config_text import read_metadata_table
from library.data.config.keys import DATASET, KEYS, NotAccepted
from library.data.config.subset_check import subset_faults
from library.data.scan.caption_files import length_fault, split_tags
from library.errors import Problem, UserError, coded
from library.files import compared, is_image, list_images
from library.options.bounds import MOST_PIXELS
from library.parsing.signs import HALF_PAIR, is_text
from library.paths.look import expanded, look, shown
from library.renaming import is_there
from library.words import counted, named, verb

_AS_USUAL = SubsetOptions()


@dataclass(frozen=True)
class MetadataEntry:
    """One image of a metadata file: `caption` joins caption and tags; `train_resolution` is (width, height) if the file has it.

    `path` is the file of its latents if they exist and the image does not.
    """

    path: Path
    caption: str
    train_resolution: tuple[int, int] | None


def from_metadata(
    image_dir: Path | str | None,
    in_json: Path | str,
    repeats: int | None,
    defaults: Mapping[str, object],
    masks: Path | str | None = None,
) -> DatasetBlueprint:
    """One dataset from --train_data_dir and --in_json, each image `repeats` times. Raises UserError with all errors.

    `defaults` are the command line's values by flag name, `masks` is --conditioning_data_dir. Without --resolution, the scan checks that
    the metadata contains sizes (as prepare_buckets_latents.py writes them).
    """
    values, faults = command_line_values(defaults)
    options, more = dataset_options(values, "--in_json", [expanded(Path(in_json))])
    faults += more
    findings = idle_keys(options, "--in_json") if options else []
    own: dict[str, object] = {"metadata_file": expanded(Path(in_json))}
    if image_dir is not None:
        own["image_dir"] = expanded(Path(image_dir))
    if masks is not None:
        own["conditioning_data_dir"] = expanded(Path(masks))
    names = (("--in_json.metadata_file", "--in_json"), ("--in_json.image_dir", "--train_data_dir"))
    for line in subset_faults(own, {}, "--in_json", frozenset({METADATA})):
        text = str(line)
        for old, new in names:
            text = text.replace(old, new)
        faults.append(line.reworded(text))
    if faults:
        raise UserError(*faults)
    assert options is not None
    common = {name: value for name, value in values.items() if KEYS[name].level != DATASET and value is not INVALID}
    common |= own | {"num_repeats": repeats or 1}
    return DatasetBlueprint((DatasetSpec(options, (SubsetOptions.of(common, "--in_json"),)),), tuple(findings))


def read_metadata(
    path: Path, image_dir: Path | None, folder_key: str = "image_dir", settings: SubsetOptions = _AS_USUAL
) -> tuple[list[MetadataEntry], list[str]]:
    """The entries with an image, in the file's order, and findings: entries without image or text, images without entry or with two.

    A key is a path relative to `image_dir` without extension (forward or backward slashes), or a full path; an extension is tolerated.
    Without `image_dir`, keys are full paths, or relative to the folder of a .jsonl. `folder_key` is the user's name for `image_dir`;
    `settings` decide how caption and tags are joined. Raises UserError for a file of another form or without any entry that has an image.
    """
    table, findings = read_metadata_table(path, "metadata file")
    if not table:
        raise UserError(coded("DATA-006", f"metadata file {path}: has no entries"))
    if image_dir is None and path.suffix.lower() == ".jsonl":
        image_dir = path.parent  # file names in its rows are relative to it
    on_disk = _by_key(list_images(image_dir, recursive=True), image_dir) if image_dir else {}
    listed: dict[Path, dict[str, Path]] = {}
    entries: list[MetadataEntry] = []
    used: set[Path] = set()
    missing: list[str] = []
    again: list[str] = []
    faults: list[Problem] = []
    for key, value in table.items():
        image = _find(key, image_dir, on_disk, listed) or _latents(key, value, image_dir)
        if image is None:
            missing.append(key)
            continue
        try:
            entry = MetadataEntry(image, _caption(value, settings), _train_resolution(value))
            if image in used:
                again.append(key)
            else:
                entries.append(entry)
                used.add(image)
        except NotAccepted as fault:
            faults.append(coded("DATA-007", f"{path}: entry '{key}': {fault}"))
    if faults:
        more = len(faults) - 20
        rest = [coded("DATA-007", f"{path}: … and {more} more like these")] if more > 0 else []
        raise UserError(*faults[:20], *rest)
    if not entries:
        raise UserError(
            coded(
                "DATA-006",
                f"{path}: no image found for its {counted(len(table), 'entry', 'entries')}{_why(missing, image_dir, on_disk, folder_key)}",
            )
        )
    if missing:
        findings.append(
            f"{path}: {len(missing)} of {counted(len(table), 'entry', 'entries')} without an image, skipped: {named(missing)};"
            f" {_closed(missing, image_dir) or 'remove them from the file, or restore the images'}"
        )
    if again:
        findings.append(
            f"{path}: {counted(len(again), 'entry', 'entries')} skipped, because "
            f"{verb(len(again), 'another entry already names its image', 'other entries already name their images')}: {named(again)};"
            " keep one entry for each image"
        )
    silent = [entry.path.name for entry in entries if not split_tags(entry.caption)]
    if silent:
        findings.append(
            f"{path}: {counted(len(silent), 'image')} without captions or tags: {named(silent)};"
            " their images are trained without text; add texts to the file, or remove the entries"
        )
    extra = sorted({image for images in on_disk.values() for image in images} - used)
    if extra and image_dir:
        names = named([image.relative_to(image_dir).as_posix() for image in extra])
        findings.append(
            f"{path}: {counted(len(extra), 'image')} in '{image_dir}' without an entry, skipped: {names};"
            " merge their captions into the file to train on them"
        )
    return entries, findings


def _slashes(key: str) -> str:
    return key.replace("\\", "/").removeprefix("./")


def _compared(key: str) -> str:
    """A key normalized as the file system compares names: Windows ignores letter case, also of drives (c:, C:)."""
    return compared(_slashes(key))


def _by_key(images: list[Path], image_dir: Path) -> dict[str, list[Path]]:
    """Images by every key that may name them: relative and full path, with and without extension."""
    table: dict[str, list[Path]] = {}
    for image in images:
        for whole in (image.relative_to(image_dir), image, image.absolute()):
            for name in {whole.as_posix(), whole.with_suffix("").as_posix()}:
                named_images = table.setdefault(_compared(name), [])
                if image not in named_images:
                    named_images.append(image)
    return table


def _find(key: str, image_dir: Path | None, on_disk: Mapping[str, list[Path]], listed: dict[Path, dict[str, Path]]) -> Path | None:
    """The image that a key names; the first by name for a.jpg and a.png. `listed` caches folder listings."""
    images = on_disk.get(_compared(key))
    if images:
        return images[0]
    path = Path(key)
    if not path.is_absolute() and image_dir:
        return None
    if is_image(path) and is_there(path):
        return path
    if path.parent not in listed:
        try:
            beside = sorted(filter(is_image, path.parent.iterdir()), reverse=True)
        except (OSError, ValueError):
            beside = []
        listed[path.parent] = {compared(one.name[: -len(one.suffix)]): one for one in beside}  # the first by name overwrites the others
    return listed[path.parent].get(compared(path.name))


def _latents(key: str, value: object, image_dir: Path | None) -> Path | None:
    """The `.npz` file that prepare_buckets_latents.py created for a missing image."""
    if not isinstance(value, dict) or value.get("train_resolution") is None:
        return None
    path = Path(_slashes(key))
    if not path.is_absolute():
        if image_dir is None:
            return None
        path = image_dir / path
    from library.data.scan.latent_headers import prepared_file

    file = prepared_file(path) if is_image(path) else path.with_name(path.name + ".npz")
    return file if is_there(file) else None


def _caption(value: object, settings: SubsetOptions) -> str:
    """Caption and tags as one text; with enable_wildcard, the tags follow each line of the caption."""
    if not isinstance(value, dict):
        raise NotAccepted('expected {"caption": "…", "tags": "…"}')
    parts = []
    for name in ("caption", "tags"):
        text = value.get(name)
        if text is None:
            continue
        if not isinstance(text, str):
            raise NotAccepted(f'"{name}" is not text')
        if not is_text(text):
            raise NotAccepted(f'"{name}" has {HALF_PAIR}; write it completely, or remove it')
        if reason := length_fault(text):
            raise NotAccepted(f'"{name}" {reason}')
        if text.strip():
            parts.append(text.strip())
    if not parts and "caption" not in value and "tags" not in value:
        raise NotAccepted('has neither "caption" nor "tags"; run finetune/merge_captions_to_metadata.py or merge_dd_tags_to_metadata.py')
    between = ", " if settings.caption_separator == "," else settings.caption_separator
    if not settings.enable_wildcard or not parts:
        return between.join(parts)
    lines = [line for line in map(str.strip, parts[0].splitlines()) if line]
    tags = settings.caption_separator.join(parts[1].splitlines()) if len(parts) == 2 else ""
    return "\n".join(f"{line}{between}{tags}" if tags else line for line in lines)


def _train_resolution(value: object) -> tuple[int, int] | None:
    size = value.get("train_resolution") if isinstance(value, dict) else None
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in size):
        raise NotAccepted(f'"train_resolution" is {size}; expected [width, height] in pixels')
    if size[0] % 8 or size[1] % 8:
        raise NotAccepted(f'"train_resolution" is {size}; both sides must be multiples of 8')
    if max(size) > MOST_PIXELS:
        raise NotAccepted(f'"train_resolution" is {size}; at most {MOST_PIXELS} pixels a side')
    return size[0], size[1]


def _closed(missing: list[str], image_dir: Path | None) -> str | None:
    """Why the system cannot open one of the missing images; None if they simply do not exist."""
    for key in missing[:20]:
        path = Path(_slashes(key))
        if seen := look(path if path.is_absolute() or image_dir is None else image_dir / path).fault:
            return f"'{shown(key)}': {seen}"
    return None


def _why(missing: list[str], image_dir: Path | None, on_disk: Mapping[str, list[Path]], folder_key: str) -> str:
    first = missing[0] if missing else ""
    if closed := _closed(missing, image_dir):
        return f" (first: {closed})"
    if PureWindowsPath(first).drive and not Path(first).drive:
        return f" (first: '{first}'); its keys are full paths of a Windows machine: create it again on this one"
    if first.startswith("/") and not Path(first).is_absolute():
        return f" (first: '{first}'); its keys are full paths of another system: create it again on this one"
    if image_dir is None:
        added = folder_key if folder_key.startswith("--") else f"{folder_key} = '…'"
        return f" (first: '{first}'); if its keys are not full paths, add {added} with the folder they are relative to"
    if not on_disk:
        return f": '{image_dir}' and its folders contain no images"
    folded = {name.lower(): name for name in on_disk}
    near = difflib.get_close_matches(_slashes(first).rsplit("/", 1)[-1].lower(), list(folded), n=1, cutoff=0.6)
    example = folded[near[0]] if near else min(on_disk, key=len)
    where = f" in '{image_dir}' (first entry: '{first}', an image there: '{example}')"
    if near and near[0] == first.lower():
        return f"{where}; write the names in the file exactly like those of the images, including upper and lower case"
    return f"{where}; set {folder_key} to the folder its keys are relative to"
