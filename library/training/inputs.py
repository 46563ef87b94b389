"""From options to the images and the plan of a run: all that can be known, told and refused before torch is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from library.console import log
from library.data.blueprint import DREAMBOOTH, METADATA, DatasetBlueprint, check_caching, read_config
from library.data.buckets import FilledData, fill
from library.data.folders import from_folders
from library.data.metadata import from_metadata
from library.data.records import scan
from library.data.sampler import EpochSampler
from library.errors import UserError
from library.options.declare import Script, values_of
from library.training.plan import RunPlan, make_plan, plan_lines

ALL_FORMS = frozenset({DREAMBOOTH, METADATA})


@dataclass(frozen=True)
class Inputs:
    """What a run works on. `sampler` has no seed yet: that is `sampler(seed)`'s to bind."""

    data: FilledData
    plan: RunPlan
    processes: int

    def sampler(self, seed: int) -> EpochSampler:
        """The order of every epoch under `seed`."""
        return EpochSampler(self.data, seed, self.processes)


def gather(options: Script, forms: frozenset[str] = ALL_FORMS) -> Inputs:
    """Read the dataset config or folders, scan images and captions, fill buckets and work out the plan.

    Raises UserError with all faults of a stage together.
    """
    values = values_of(options)
    blueprint = _blueprint(values, forms)
    if values["cache_latents"] and (faults := check_caching(blueprint)):
        raise UserError(*faults)
    data = fill(scan(blueprint), values.get("prior_loss_weight", 1.0))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    batches = EpochSampler(data, 0, processes).batches_per_epoch
    plan = make_plan(
        batches,
        accumulation=values["gradient_accumulation_steps"],
        max_train_steps=values["max_train_steps"],
        max_train_epochs=values["max_train_epochs"],
        warmup=values["lr_warmup_steps"],
        save_every_n_epochs=values["save_every_n_epochs"],
        save_n_epoch_ratio=values["save_n_epoch_ratio"],
        save_every_n_steps=values["save_every_n_steps"],
    )
    return Inputs(data, plan, processes)


def _blueprint(values: dict[str, Any], forms: frozenset[str]) -> DatasetBlueprint:
    if values["dataset_config"] is not None:
        return read_config(values["dataset_config"], values, forms)
    if values.get("in_json") is not None:
        if METADATA not in forms:
            raise UserError(
                "--in_json: this script takes caption files and class tokens, no metadata; use train_network.py or fine_tune.py"
            )
        return from_metadata(values["train_data_dir"], values["in_json"], values["dataset_repeats"], values)
    if DREAMBOOTH not in forms:
        raise UserError("--train_data_dir: this script needs the metadata of its images; give --in_json meta.json or --dataset_config")
    return from_folders(values["train_data_dir"], values.get("reg_data_dir"), values)


def tell(inputs: Inputs, max_train_epochs: int | None) -> None:
    """Print what was found and what will be done: images, regularization, buckets, then the plan (SPEC R6)."""
    for finding in inputs.data.findings:
        log.warning(finding)
    lines: list[str] = []
    for number, figures in enumerate(inputs.data.figures):
        spec = inputs.data.blueprint.datasets[number]
        width, height = spec.options.resolution
        title = f"dataset {number + 1}: " if len(inputs.data.figures) > 1 else ""
        lines.append(
            f"{title}{width}×{height}, batch size {figures.batch_size}: {figures.images} images, {figures.shown} an epoch with repeats"
        )
        for subset in spec.subsets:
            lines.append(f"    {_subset_line(inputs.data, number, subset)}")
        if figures.reg_images:
            left = f", {figures.reg_left_over} not seen in an epoch" if figures.reg_left_over else ""
            lines.append(f"    regularization: {figures.reg_images} images, {figures.reg_shown} an epoch to match the train images{left}")
        for size, count in figures.buckets:
            lines.append(
                f"    bucket {size[0]}×{size[1]}: {count} an epoch, {-(-count // (figures.batch_size * inputs.processes))} batches"
            )
    lines += plan_lines(inputs.plan, processes=inputs.processes, max_train_epochs=max_train_epochs)
    for line in lines:
        log.info(line)


def _subset_line(data: FilledData, number: int, subset: Any) -> str:
    count = sum(record.dataset == number and record.subset is subset for record in data.records)
    kind = "regularization, " if subset.is_reg else ""
    words = f", class tokens “{subset.class_tokens}”" if subset.class_tokens else ""
    return f"{subset.image_dir or subset.metadata_file}: {kind}{count} images × {subset.num_repeats} repeats{words}"
