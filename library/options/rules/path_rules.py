"""What options name is there: folders, files, packages; and what they want written can be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from library.options.rules.data_rules import OLD_FORM
from library.options.rules.option_view import Given
from library.options.suggest import missing_path
from library.packages import missing_module


def paths(given: Given) -> Iterator[str]:
    """Everything that must already be there is there, and is what it should be: a file or a folder."""
    idle = OLD_FORM if given.dataset_config is not None else ()
    for field in ("train_data_dir", "reg_data_dir", "conditioning_data_dir"):
        if field in idle:
            continue
        value = getattr(given, field)
        if value is not None and Path(value).is_file():
            yield f"{given.at(field)}: {value} is a file; give the folder"
        elif value is not None and not Path(value).is_dir():
            yield f"{given.at(field)}: {value}: {missing_path(Path(value), folder=True)}"
    if given.resume is not None and not given.resume_from_huggingface and not Path(given.resume).is_dir():
        found = "is a file; give the folder" if Path(given.resume).exists() else missing_path(Path(given.resume), folder=True)
        yield f"{given.at('resume')}: {given.resume}: {found}"
    files = ["dataset_config", "in_json", "network_weights", "weights", "log_tracker_config"]
    for field in files:
        value = getattr(given, field)
        if value is not None and field not in idle:
            yield from _file(given, field, Path(value))
    if given.sample_prompts is not None and asks_for_samples(given) and not _may_come_later(Path(given.sample_prompts)):
        yield from _file(given, "sample_prompts", Path(given.sample_prompts))
    for value in given.base_weights or ():
        yield from _file(given, "base_weights", Path(value))
    for field in ("pretrained_model_name_or_path", "vae"):
        value = getattr(given, field)
        if value is not None and not Path(value).exists() and _is_path(value):
            yield f"{given.at(field)}: {value}: {missing_path(Path(value), folder=not Path(value).suffix)}"


def asks_for_samples(given: Given) -> bool:
    """Whether samples are to be made during training."""
    return bool(given.sample_every_n_steps or given.sample_every_n_epochs or given.sample_at_first)


def _may_come_later(path: Path) -> bool:
    """Whether a file that is not there is no slip of the fingers: nothing beside it has such a name."""
    return not path.exists() and (not path.parent.is_dir() or "did you mean" not in missing_path(path))


def is_module(name: str) -> bool:
    """Whether the module can be there, as far as it shows without importing a package that may be large."""
    return missing_module(name) is None


def writable(given: Given, field: str) -> Iterator[str]:
    """What keeps the folder of an option from being made or written to."""
    folder = Path(getattr(given, field))
    standing = next((part for part in (folder, *folder.absolute().parents) if part.exists()), None)
    if standing is None:
        yield f"{given.at(field)}: {folder}: there is no such drive; give a folder that can be made"
    elif not standing.is_dir():
        which = f"{folder}: " if folder != standing else ""
        yield f"{given.at(field)}: {which}{standing} is a file, not a folder; give another folder"
    elif not os.access(standing, os.W_OK | os.X_OK):
        yield f"{given.at(field)}: {folder}: no right to write in {standing}; give another folder"


def _file(given: Given, field: str, path: Path) -> Iterator[str]:
    if path.is_dir():
        yield f"{given.at(field)}: {path} is a folder; give the file itself"
    elif not path.exists():
        yield f"{given.at(field)}: {path}: {missing_path(path)}"


def _is_path(name: str) -> bool:
    """Whether a model's name can only be a path, not a Hugging Face id such as owner/model."""
    ending = Path(name).suffix.lower() in (".ckpt", ".safetensors", ".pt", ".pth", ".bin")
    return ending or "\\" in name or name.startswith((".", "/", "~")) or name.count("/") > 1 or name[1:2] == ":" or name.endswith("/")
