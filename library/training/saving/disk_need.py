"""Estimates the disk space for the files of a run from the model's header, before anything is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from library.containers.weights_file import open_weights
from library.data.batching.buckets import FilledData
from library.method import ExpectedWeights
from library.model.family import PartSizes
from library.model.files.facts import OPTION, ModelFacts, classic_infos
from library.model.files.part_sizes import part_sizes
from library.options.groups.scripts import TrainingScript
from library.paths.look import exists
from library.training.optim.optimizer_table import chosen_name, state_bytes
from library.training.planning.plan import RunPlan
from library.training.saving.checkpointer import FileNames, SaveKind
from library.training.saving.disk_room import most_bytes, saves
from library.training.saving.retention import files_to_keep, states_to_keep
from library.words import in_words

Expect = Callable[[PartSizes], ExpectedWeights]

_WEIGHT_BYTES = {"float": 4, "fp16": 2, "bf16": 2}
_LATENT_BYTES = {"distribution": 8 * 4, "mean": 4 * 4}  # bytes per 8×8 pixels: 4 channels in float32, with or without their log variance


@dataclass(frozen=True)
class DiskNeed:
    """Peak size of the output folder in bytes, None if a size is not known in advance; `lines` show how it adds up."""

    total: int | None
    free: int
    folder: Path
    lines: tuple[str, ...]


def disk_need(options: TrainingScript, facts: ModelFacts, plan: RunPlan, filled: FilledData, expect: Expect) -> DiskNeed:
    """Estimate the disk space of the run's files; `expect` returns the expected weights of its method for these part sizes.

    Raises UserError if the model's header cannot be read.
    """
    # the parts of a folder are separate files: assume the sizes of a released model
    sizes = facts.family.sizes if facts.layout == "diffusers" else part_sizes(classic_infos(open_weights(facts.path, OPTION).infos))
    saving, data = options.saving, options.data
    expected = expect(sizes)
    product, trained = expected.product, expected.trained
    width = _WEIGHT_BYTES[saving.save_precision or "float"]
    lines: list[str] = []
    totals: list[int | None] = []
    names = FileNames(saving.folder, saving.output_name, "")
    files = _at_a_time(plan, files_to_keep(saving, names, _nothing, 1))
    if product is None:
        lines.append(f"files: {files}, whose size only {expected.known_by} knows")
        totals.append(None)
    else:
        lines.append(f"files: {files} × {in_words(product * width)} = {in_words(files * product * width)}")
        totals.append(files * product * width)
    if (saving.save_state or saving.save_state_on_train_end) and trained is not None:
        states = _at_a_time(plan, states_to_keep(saving, names, _nothing, 1))
        each = round(trained * (4 + state_bytes(chosen_name(options.optimizer))))
        lines.append(f"states: {states} × {in_words(each)} = {in_words(states * each)}")
        totals.append(states * each)
    if data.cache_latents or data.cache_latents_to_disk:
        latents = _latents(filled, data.cache_latents_kind)
        where = "disk, next to the images" if data.cache_latents_to_disk else "main memory"
        lines.append(f"latents: {in_words(latents)} of {where}")
    folder = saving.folder
    free = shutil.disk_usage(next(part for part in (folder, *folder.absolute().parents) if exists(part))).free
    known = [total for total in totals if total is not None]
    return DiskNeed(sum(known) if len(known) == len(totals) else None, free, folder, tuple(lines))


def _at_a_time(plan: RunPlan, kind: SaveKind) -> int:
    """Return the maximum number of files at a time, counting the new one that is written before an old one is removed, and the last one."""
    return most_bytes(saves(plan, [kind]))


def _nothing(path: Path, epochs: int, step: int) -> None:
    """The writer of a kind of which only names and retention are used."""


def _latents(filled: FilledData, kind: str) -> int:
    pixels = sum(
        placement.bucket[0] * placement.bucket[1] * (2 if record.subset.flip_aug else 1)
        for record, placement in zip(filled.records, filled.placements, strict=True)
    )
    return pixels // 64 * _LATENT_BYTES[kind]
