"""Checks one subset's table: its form, contradictions, and the folders and files that it names."""

from __future__ import annotations

from pathlib import Path

from library.data.config.blueprint import DREAMBOOTH, METADATA
from library.data.config.check import INVALID
from library.data.config.nearby_paths import folder_contents, has_images, near_names, other_files
from library.errors import Problem, coded
from library.image_endings import SHOWN
from library.parsing.toml_text import toml_string
from library.paths.faults import closed_fault
from library.paths.look import exists, is_file, is_folder
from library.words import counted, named

Values = dict[str, object]  # key -> converted value, or INVALID


def subset_faults(own: Values, inherited: Values, place: str, forms: frozenset[str]) -> list[Problem]:
    """Errors in one subset's table: form, contradictions, folder. `own` are its own keys, `inherited` those of the levels above."""
    form = METADATA if "metadata_file" in own else DREAMBOOTH
    faults = []
    if form not in forms:
        line = (
            f"{place}.metadata_file: this script only trains from image folders with caption files or class_tokens; for a metadata file use"
            " fine_tune.py or train_network.py"
            if form == METADATA
            else f"{place} has no metadata_file, but this script only trains from metadata files; add metadata_file = '….json',"
            " or use train_db.py or train_network.py for image folders"
        )
        faults.append(coded("DATA-008", line))
    if form == METADATA:
        for key in ("is_reg", "class_tokens", "caption_extension"):
            if own.get(key) not in (None, "", False, INVALID):
                reason = "regularization images need the DreamBooth form" if key == "is_reg" else "captions come from the metadata file"
                faults.append(coded("CFG-010", f"{place}.{key} contradicts metadata_file: {reason}; remove one of the two"))
        if isinstance(own["metadata_file"], Path) and (closed := closed_fault(own["metadata_file"], folder=False)):
            faults.append(closed.reworded(f"{place}.metadata_file: {closed}"))
        elif isinstance(own["metadata_file"], Path) and not is_file(own["metadata_file"]):
            wrong = "is a folder" if is_folder(own["metadata_file"]) else "does not exist"
            faults.append(coded("PATH-001", f"{place}.metadata_file: '{own['metadata_file']}' {wrong}{near_names(own['metadata_file'])}"))
    elif (own | inherited).get("image_dir") is None:
        faults.append(coded("CFG-011", f"{place}.image_dir is missing; add image_dir = '…' with the folder of the images"))
    masks = own.get("conditioning_data_dir")
    if isinstance(masks, Path) and (closed := closed_fault(masks, folder=True)):
        faults.append(closed.reworded(f"{place}.conditioning_data_dir: {closed}"))
    elif isinstance(masks, Path) and not is_folder(masks):
        wrong = "is a file; name its folder" if exists(masks) else f"does not exist{near_names(masks)}"
        faults.append(coded("PATH-003" if exists(masks) else "PATH-001", f"{place}.conditioning_data_dir: '{masks}' {wrong}"))
    folder = own.get("image_dir")
    if isinstance(folder, Path):
        faults += [line.reworded(f"{place}.image_dir: {line}") for line in _folder_faults(folder)]
    return faults


def _folder_faults(folder: Path) -> list[Problem]:
    if closed := closed_fault(folder, folder=True):
        return [closed]
    if not exists(folder):
        relative = "" if folder.is_absolute() else f" (relative to {Path.cwd()})"
        return [coded("PATH-001", f"'{folder}' does not exist{relative}{near_names(folder)}")]
    if not is_folder(folder):
        return [coded("PATH-003", f"'{folder}' is a file; name its folder")]
    return []


def without_images(own: Values) -> str | None:
    """What a subset's folder contains instead of images; None if it has images, is unreadable or belongs to a metadata file."""
    folder = own.get("image_dir")
    if not isinstance(folder, Path) or "metadata_file" in own or not is_folder(folder):
        return None
    if closed_fault(folder, folder=True) or has_images(folder):
        return None
    below = {name: count for name, count in folder_contents(folder)[1].items() if count}
    if below:
        listed = named([f"'{name}' ({counted(count, 'image')})" for name, count in below.items()])
        remedy = (
            f"name the folder that you mean, image_dir = {toml_string(str(folder / next(iter(below))))}, or make each a separate subset"
        )
        return f"'{folder}' has no images itself, but its folders do: {listed}; {remedy}"
    return f"'{folder}' has no images ({SHOWN}): {other_files(folder)}"
