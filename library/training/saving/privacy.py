"""--metadata_privacy: what a saved file leaves out about its training (SPEC R7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FULL, TECHNICAL = "full", "technical"  # "no_paths" is between the two
_NAMES = ("ss_sd_model_name", "ss_vae_name")
_WORDS = (
    "ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_output_name", "ss_training_comment", "ss_token_string",
    "ss_dataset_class", "ss_new_words",
)  # fmt: skip
_SUBSET_NAMES, _SUBSET_WORDS = ("metadata_file",), ("image_dir", "metadata_file", "class_tokens", "caption_prefix", "caption_suffix")


def private(values: Mapping[str, Any], level: str) -> dict[str, Any]:
    """Return the metadata `values` (not yet converted to text) that `level` allows.

    * no_paths: without names of models and metadata files, and without settings that contain a path; folders become folder-1, folder-2, …
    * technical: also without tags, class tokens, folders, comment and names; settings, figures and hashes stay.
    """
    if level == FULL:
        return dict(values)
    allowed = {key: value for key, value in values.items() if key not in _NAMES and not (level == TECHNICAL and key in _WORDS)}
    folders = _Folders()
    if "ss_datasets" in allowed:
        allowed["ss_datasets"] = [_dataset(dataset, level, folders) for dataset in allowed["ss_datasets"]]
    for key in ("ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs"):
        if key in allowed:
            allowed[key] = {folders.called(name): value for name, value in allowed[key].items()}
    args = allowed.get("ss_network_args")
    if isinstance(args, Mapping):
        allowed["ss_network_args"] = {key: value for key, value in args.items() if not _is_path(value)}
    return {key: value for key, value in allowed.items() if key == "ss_training_comment" or not _is_path(value)}


class _Folders:
    """Numbers the folders, so that their names do not appear."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def called(self, name: str) -> str:
        return self._known.setdefault(name, f"folder-{len(self._known) + 1}")


def _dataset(dataset: Mapping[str, Any], level: str, folders: _Folders) -> dict[str, Any]:
    allowed = dict(dataset)
    gone = _SUBSET_WORDS if level == TECHNICAL else _SUBSET_NAMES
    allowed["subsets"] = [{key: value for key, value in subset.items() if key not in gone} for subset in dataset["subsets"]]
    for subset in allowed["subsets"]:
        if "image_dir" in subset:
            subset["image_dir"] = folders.called(subset["image_dir"])
    tags = allowed.pop("tag_frequency", None)
    if tags is not None and level != TECHNICAL:
        allowed["tag_frequency"] = {folders.called(name): counts for name, counts in tags.items()}
    return allowed


def _is_path(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)
