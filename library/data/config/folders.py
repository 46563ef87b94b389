"""Command-line form of datasets: --train_data_dir and --reg_data_dir, with repeats and class in the folder names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from library.data.config.blueprint import DatasetBlueprint, DatasetSpec, SubsetOptions
from library.data.config.build import command_line_values, dataset_options, idle_keys
from library.data.config.check import INVALID
from library.data.config.keys import DATASET
from library.data.config.keys import KEYS as _KEYS
from library.data.config.nearby_paths import folder_contents, near_names, other_files
from library.errors import Problem, UserError, coded
from library.image_endings import SHOWN, described, remedy, unread_pictures
from library.options.bounds import MOST_REPEATS
from library.paths.faults import closed_fault
from library.paths.listing import listing
from library.paths.look import exists, expanded, is_folder
from library.paths.shell_words import shell_word
from library.words import counted, named, verb

_NAME = re.compile(r"(\d+)_(.*\S)\s*")


def from_folders(
    train_data_dir: Path | str, reg_data_dir: Path | str | None, defaults: Mapping[str, object], masks: Path | str | None = None
) -> DatasetBlueprint:
    """One dataset from the folders `<repeats>_<identifier> <class>` below `train_data_dir`.

    Regularization images are in `<repeats>_<class>` below `reg_data_dir`. `defaults` are the command line's values by flag name, `masks` is
    --conditioning_data_dir. Raises UserError with all errors; each names what the folder contains instead.
    """
    values, faults = command_line_values(defaults)
    options, more = dataset_options(values, "--train_data_dir")
    faults += more
    findings = idle_keys(options, "--train_data_dir") if options else []
    common = {name: value for name, value in values.items() if _KEYS[name].level != DATASET and value is not INVALID}
    base = SubsetOptions.of(common)
    subsets = _subsets(Path(train_data_dir), "--train_data_dir", base, faults, findings)
    if masks is not None:
        subsets = [replace(subset, conditioning_data_dir=_masks_of(subset, expanded(Path(masks)))) for subset in subsets]
    if reg_data_dir is not None:
        subsets += _subsets(Path(reg_data_dir), "--reg_data_dir", replace(base, is_reg=True), faults, findings)
    if faults:
        raise UserError(*faults)
    assert options is not None
    return DatasetBlueprint((DatasetSpec(options, tuple(subsets)),), tuple(findings))


def _masks_of(subset: SubsetOptions, masks: Path) -> Path:
    """The folder below `masks` with the same name as the subset's folder, else `masks` itself."""
    assert subset.image_dir
    own = masks / subset.image_dir.name
    return own if is_folder(own) else masks


def _subsets(parent: Path, flag: str, base: SubsetOptions, faults: list[Problem], findings: list[str]) -> list[SubsetOptions]:
    parent = expanded(parent)
    if closed := closed_fault(parent, folder=True):
        faults.append(closed.reworded(f"{flag}: {closed}"))
        return []
    if not is_folder(parent):
        wrong = "is a file; name the folder" if exists(parent) else f"does not exist{near_names(parent)}"
        faults.append(coded("PATH-003" if exists(parent) else "PATH-001", f"{flag}: '{parent}' {wrong}"))
        return []
    own, below = folder_contents(parent)
    subsets: list[SubsetOptions] = []
    left_out: list[str] = []
    misnamed = unnamed = False
    for name, images in below.items():
        match = _NAME.fullmatch(name)
        repeats = int(match[1]) if match else 0
        if match and (closed := closed_fault(parent / name, folder=True)):
            unnamed = True
            faults.append(closed.reworded(f"{flag}: {closed}"))
        elif match and repeats and images and not _is_unicode(name):
            unnamed = True
            faults.append(
                coded(
                    "DATA-025",
                    f"{flag}: the name of the folder '{name}' is not in this system's encoding, so its class cannot be read"
                    " (a zip archive of another system?); rename it",
                )
            )
        elif match and repeats > MOST_REPEATS and images:
            unnamed = True
            faults.append(
                coded(
                    "DATA-025",
                    f"{flag}: the folder '{_cut(name)}' asks for {_cut(match[1])} repeats, and {MOST_REPEATS} is the maximum; rename it, "
                    f"e.g. to '10_{_cut(match[2])}'",
                )
            )
        elif match and repeats and images:
            subsets.append(replace(base, image_dir=parent / name, class_tokens=match[2], num_repeats=repeats, place=f"{flag} {name}"))
        elif images or match or _unread(parent / name):
            left_out.append(f"'{name}' ({_reason(bool(match), repeats, images, parent / name)})")
            misnamed |= bool(images)
    if not subsets:
        faults += [] if unnamed else [coded("DATA-003", f"{flag}: {_nothing(parent, flag, own, below, left_out)}")]
        return []
    if left_out:
        advice = "rename them to <repeats>_<name>, such as '10_shs dog'," if misnamed else f"put images ({SHOWN}) into them"
        findings.append(f"{flag}: skipped: {named(left_out)}; {advice} to train on them")
    if own:
        findings.append(
            f"{flag}: skipped: {counted(own, 'image')} directly in '{parent}'; only its <repeats>_<name> folders are read; move them there"
        )
    return subsets


def _cut(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:30]}…"


def _is_unicode(name: str) -> bool:
    return name.encode("utf-8", "replace").decode("utf-8") == name


def _reason(named_right: bool, repeats: int, images: int, folder: Path) -> str:
    if images:
        return "0 repeats" if named_right else f"{counted(images, 'image')}, but no repeats in its name"
    pictures = _unread(folder)
    return f"{described(pictures)}: {remedy(pictures)}" if pictures else "no images"


def _unread(folder: Path) -> Counter[str]:
    try:
        return unread_pictures(listing(folder).files)
    except OSError:  # unreadable, and its name does not match ours
        return Counter()


def _nothing(parent: Path, flag: str, own: int, below: dict[str, int], left_out: list[str]) -> str:
    """Why there is no folder with a valid name and images, and what to do."""
    form = "<repeats>_<class>" if flag == "--reg_data_dir" else "<repeats>_<identifier> <class>"
    example = "1_dog" if flag == "--reg_data_dir" else "10_shs dog"
    if _NAME.fullmatch(parent.name) and own:
        return f"'{parent}' itself contains {counted(own, 'image')}; name the folder above it: {flag} {shell_word(parent.parent)}"
    if own:
        return (
            f"'{parent}' itself contains {counted(own, 'image')}, but {verb(own, 'it', 'they')} must be one "
            f"folder deeper; create a folder '{parent / example}'"
            f" (that is {form}), move {verb(own, 'it', 'them')} there and keep {flag} {shell_word(parent)}"
        )
    repeats = example.partition("_")[0]
    unnamed = [name for name, images in below.items() if images and not _NAME.fullmatch(name)]
    if unnamed:
        return f"'{parent}' has no folder named {form}, only {named(left_out)}; rename, e.g. '{unnamed[0]}' to '{repeats}_{unnamed[0]}'"
    if left_out:
        return f"'{parent}' has folders with the right name, but {named(left_out)}; put images ({SHOWN}) into them"
    if below:
        return f"'{parent}' has the folders {named([repr(name) for name in below])}, none with images; expected {form}, e.g. '{example}'"
    return f"'{parent}' has no folder named {form} (e.g. '{example}'): {other_files(parent)}"
