"""--metadata_privacy: what a saved file keeps to itself about its training (SPEC R7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FULL, TECHNICAL = "full", "technical"  # and "no_paths" between the two
_NAMES = ("ss_sd_model_name", "ss_vae_name")
_WORDS = (
    "ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs", "ss_output_name", "ss_training_comment", "ss_token_string",
    "ss_dataset_class", "ss_new_words",
)  # fmt: skip
_SUBSET_NAMES, _SUBSET_WORDS = ("metadata_file",), ("image_dir", "metadata_file", "class_tokens", "caption_prefix", "caption_suffix")


def private(values: Mapping[str, Any], level: str) -> dict[str, Any]:
    """The metadata `values` (before they become text) that `level` lets out.

    no_paths: names of models and of metadata files go, folders are called folder-1, folder-2, …, settings that hold a path go.
    technical: tags, class words, folders, comment and names go too; settings, figures and hashes stay.
    """
    if level == FULL:
        return dict(values)
    kept = {key: value for key, value in values.items() if key not in _NAMES and not (level == TECHNICAL and key in _WORDS)}
    folders = _Folders()
    if "ss_datasets" in kept:
        kept["ss_datasets"] = [_dataset(dataset, level, folders) for dataset in kept["ss_datasets"]]
    for key in ("ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs"):
        if key in kept:
            kept[key] = {folders.called(name): value for name, value in kept[key].items()}
    args = kept.get("ss_network_args")
    if isinstance(args, Mapping):
        kept["ss_network_args"] = {key: value for key, value in args.items() if not _is_path(value)}
    return {key: value for key, value in kept.items() if key == "ss_training_comment" or not _is_path(value)}


class _Folders:
    """The numbers by which folders go."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def called(self, name: str) -> str:
        return self._known.setdefault(name, f"folder-{len(self._known) + 1}")


def _dataset(dataset: Mapping[str, Any], level: str, folders: _Folders) -> dict[str, Any]:
    kept = dict(dataset)
    gone = _SUBSET_WORDS if level == TECHNICAL else _SUBSET_NAMES
    kept["subsets"] = [{key: value for key, value in subset.items() if key not in gone} for subset in dataset["subsets"]]
    for subset in kept["subsets"]:
        if "image_dir" in subset:
            subset["image_dir"] = folders.called(subset["image_dir"])
    tags = kept.pop("tag_frequency", None)
    if tags is not None and level != TECHNICAL:
        kept["tag_frequency"] = {folders.called(name): counts for name, counts in tags.items()}
    return kept


def _is_path(value: object) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)
