"""Folders, files and packages that options name must exist, and outputs must be writable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from library.errors import Problem, coded
from library.options.rules.data_rules import OLD_FORM
from library.options.rules.declared_paths import path_faults
from library.options.rules.option_view import OptionView
from library.options.suggest import missing_path
from library.packages import missing_module
from library.paths.look import Thing, is_folder, look, shown


def paths(options: OptionView) -> Iterator[Problem]:
    """All inputs must exist and be of the right kind: a file or a folder."""
    yield from path_faults(options.script, _idle(options))
    for field in ("pretrained_model_name_or_path", "vae"):
        value = getattr(options, field)
        if value is not None and is_missing_model(value):
            yield coded("MODEL-001", f"{options.at(field)}: {shown(value)}: {missing_path(Path(value), folder=not Path(value).suffix)}")


def _idle(options: OptionView) -> set[str]:
    """Paths that are not used with the other options, or are checked elsewhere."""
    idle = {"config_file", "output_name", "metadata_thumbnail"}  # have separate rules
    if options.dataset_config is not None:
        idle |= set(OLD_FORM)
    if options.resume_from_huggingface:
        idle.add("resume")
    if options.console_log_file == os.devnull:
        idle.add("console_log_file")
    if not options.dry_run:
        idle.add("report_html")
    if options.sample_prompts is not None and not (asks_for_samples(options) and not may_come_later(Path(options.sample_prompts))):
        idle.add("sample_prompts")
    return idle


def asks_for_samples(options: OptionView) -> bool:
    """Whether samples are requested during training."""
    return bool(options.sample_every_n_steps or options.sample_every_n_epochs or options.sample_at_first)


def may_come_later(path: Path) -> bool:
    """Whether a missing file is probably intended: no file next to it has a similar name."""
    return look(path).thing is Thing.MISSING and (not is_folder(path.parent) or "did you mean" not in missing_path(path))


def is_module(name: str) -> bool:
    """Whether the module exists, as far as that is known without importing a possibly large package."""
    return missing_module(name) is None


def is_missing_model(name: str) -> bool:
    """Whether the path of a model does not exist and its name cannot be a Hugging Face id."""
    return look(name).thing is Thing.MISSING and _is_path(name)


def _is_path(name: str) -> bool:
    """Whether a model's name can only be a path, not a Hugging Face id such as owner/model."""
    ending = Path(name).suffix.lower() in (".ckpt", ".safetensors", ".pt", ".pth", ".bin")
    return ending or "\\" in name or name.startswith((".", "/", "~")) or name.count("/") > 1 or name[1:2] == ":" or name.endswith("/")
