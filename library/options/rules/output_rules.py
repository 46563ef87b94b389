"""Errors and unusual combinations in the options of what a run writes: products, states, samples, logs, uploads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from library.errors import Problem, coded
from library.options.groups.scripts import FullModelScript, TrainingScript
from library.options.rules.declared_paths import is_same_file
from library.options.rules.option_view import OptionView
from library.options.rules.path_rules import asks_for_samples, is_module
from library.packages import install_command
from library.paths.faults import part_fault
from library.paths.look import Thing, exists, look, real
from library.windows_names import length_fault, name_fault, only_short_paths, path_fault
from library.words import quoted

LONGEST_NAME = 180  # bytes; a file system allows 255, and a sample's name adds 65 while it is written


def saving(options: OptionView) -> Iterator[Problem]:
    """The name must be valid for a file."""
    name = options.output_name or ""
    bad = sorted(set(name) & set("/\\"))
    if bad:
        why = f"cannot be a file name because of {' '.join(bad)}"
        yield coded("PATH-009", f"{options.at('output_name')}: {quoted(name)} {why}; name the folder with --output_dir")
    suffixes = options.script.product_suffixes if isinstance(options.script, TrainingScript) else ("",)
    length = max(len(f"{name}{suffix}".encode("utf-8", "surrogatepass")) for suffix in suffixes)
    if length > LONGEST_NAME:
        yield coded(
            "PATH-008",
            f"{options.at('output_name')}: has {length} bytes, and at most {LONGEST_NAME} leave space for the suffixes; shorten it",
        )
    elif not bad and (fault := part_fault(name)):
        yield fault.reworded(f"{options.at('output_name')}: {fault}")
    yield from _not_in_the_way(options)
    if os.name == "nt":
        yield from on_windows(options, only_short_paths())


def _not_in_the_way(options: OptionView) -> Iterator[Problem]:
    """A folder must not have the name of the product, nor the model that a network or an embedding is trained for."""
    if options.output_dir is None or options.save_model_as in ("diffusers", "diffusers_safetensors"):
        return
    suffixes = options.script.product_suffixes if isinstance(options.script, TrainingScript) else ("",)
    for suffix in suffixes:
        product = Path(options.output_dir) / f"{options.output_name or 'last'}{suffix}.{options.save_model_as or 'safetensors'}"
        seen = look(product)
        if seen.thing is Thing.SPECIAL:
            what = seen.fault.partition("; ")[0]
            yield coded(
                "PATH-007", f"{options.at('output_name')}: {product} {what}, and the result would have the same name; choose another name"
            )
        for field in () if isinstance(options.script, FullModelScript) else ("pretrained_model_name_or_path", "vae"):
            model = getattr(options, field)
            if model and is_same_file(product, Path(model)):
                what = f"is the file of --{field}, which the result would overwrite"
                yield coded("PATH-011", f"{options.at('output_name')}: {product} {what}; choose another name")
        if seen.thing is Thing.FOLDER:
            yield coded(
                "PATH-002",
                f"{options.at('output_name')}: {product} is a folder, and the result would have the same name; remove it or choose another",
            )


def on_windows(options: OptionView, only_short: bool) -> Iterator[Problem]:
    """Names that Windows does not allow and, with `only_short` paths, those that may become too long."""
    if options.output_name and (fault := name_fault(options.output_name)):
        yield coded(
            "PATH-009", f"{options.at('output_name')}: {quoted(options.output_name)} cannot be a file name: {fault}; choose another"
        )
    for field, path in (("output_dir", "{}"), ("logging_dir", "{}"), ("log_prefix", "./{}20261231"), ("log_tracker_name", "./{}")):
        folder = getattr(options, field)
        if folder is not None and (fault := path_fault(path.format(folder))):
            yield coded("PATH-009", f"{options.at(field)}: {quoted(str(folder))} cannot be a folder: {fault}; choose another")
    if only_short and options.output_dir is not None and (fault := length_fault(Path(options.output_dir), [options.output_name or ""])):
        yield coded("PATH-008", f"{options.at('output_dir')}: {fault}")


def sampling(options: OptionView) -> Iterator[Problem]:
    """Samples need prompts."""
    for field in ("sample_every_n_steps", "sample_every_n_epochs", "sample_at_first"):
        if getattr(options, field) and options.sample_prompts is None:
            yield coded("OPT-009", f"{options.at(field)}: needs --sample_prompts, the file with the prompts")


def logs(options: OptionView) -> Iterator[Problem]:
    """Logs need a folder and a package."""
    if options.log_with is not None and options.log_with != "wandb" and options.logging_dir is None:
        yield coded("OPT-009", f"{options.at('log_with')}: {options.log_with} needs --logging_dir, the folder of the log")
    if options.log_with in ("wandb", "all") and not is_module("wandb"):
        yield coded("PKG-001", f"{options.at('log_with')}: {options.log_with} needs the package wandb: {install_command('wandb')}")


def hub(options: OptionView) -> Iterator[Problem]:
    """Names on the Hub must be valid."""
    name = options.huggingface_repo_id
    if name is not None and (name.count("/") != 1 or not all(name.split("/"))):
        yield coded("HUB-001", f"{options.at('huggingface_repo_id')}: expected owner/name, such as me/my-model, not {quoted(name)}")
    if options.huggingface_repo_type not in (None, "model", "dataset", "space"):
        yield coded(
            "HUB-001",
            f"{options.at('huggingface_repo_type')}: must be model, dataset or space, not {quoted(options.huggingface_repo_type)}",
        )


def sampling_remarks(options: OptionView) -> Iterator[str]:
    """Samples that are never generated."""
    if options.sample_prompts is None:
        if options.sample_seed is not None:
            yield f"{options.at('sample_seed')}: has no effect without --sample_prompts"
        return
    if asks_for_samples(options) and not exists(Path(options.sample_prompts)):
        yield f"{options.at('sample_prompts')}: {options.sample_prompts} does not exist; no samples are generated until it does"
    elif not asks_for_samples(options):
        yield f"{options.at('sample_prompts')}: no samples are generated without --sample_every_n_steps or --sample_every_n_epochs"


def saving_remarks(options: OptionView) -> Iterator[str]:
    """Options without effect on files, states and the start of a run."""
    if options.save_last_n_epochs is not None and options.save_every_n_epochs is None and options.save_n_epoch_ratio is None:
        yield f"{options.at('save_last_n_epochs')}: has no effect without --save_every_n_epochs"
    if options.save_last_n_steps is not None and options.save_every_n_steps is None:
        yield f"{options.at('save_last_n_steps')}: has no effect without --save_every_n_steps"
    if options.save_from_epoch is not None and options.save_every_n_epochs is None and options.save_n_epoch_ratio is None:
        yield f"{options.at('save_from_epoch')}: has no effect without --save_every_n_epochs"
    late = [step for step in options.save_at_steps or () if options.max_train_epochs is None and step >= options.max_train_steps]
    if late:
        steps = ", ".join(map(str, late))
        yield f"{options.at('save_at_steps')}: {steps}: training ends at update {options.max_train_steps}, where it always saves"
    if options.skip_until_initial_step and options.initial_step is None and options.initial_epoch is None and options.resume is None:
        yield f"{options.at('skip_until_initial_step')}: has no effect without --initial_step"
    if options.initial_step is not None and options.initial_epoch is not None:
        yield f"{options.at('initial_epoch')}: has no effect with --initial_step"
    for field in ("save_last_n_epochs_state", "save_last_n_steps_state"):
        if getattr(options, field) is not None and not options.save_state:
            yield f"{options.at(field)}: has no effect without --save_state"
    if options.report_html is not None and not options.dry_run:
        yield f"{options.at('report_html')}: has no effect without --dry_run"
    if options.resume_lr != "keep" and options.resume is None:
        yield f"{options.at('resume_lr')}: has no effect without --resume"
    if options.spare_dir and options.output_dir and real(options.spare_dir) == real(options.output_dir):
        yield f"{options.at('spare_dir')}: has no effect, it is --output_dir; choose a folder on another disk"
    if (options.output_name or "").endswith((".safetensors", ".ckpt", ".pt")):
        yield f"{options.at('output_name')}: write it without the extension, which is added automatically"


def log_remarks(options: OptionView) -> Iterator[str]:
    """Log options without effect."""
    for field in ("log_prefix", "log_tracker_name", "log_tracker_config"):
        if getattr(options, field) is not None and options.logging_dir is None and options.log_with != "wandb":
            yield f"{options.at(field)}: has no effect without --logging_dir"
    if options.wandb_api_key is not None and options.log_with not in ("wandb", "all"):
        yield f"{options.at('wandb_api_key')}: has no effect without --log_with wandb"


def hub_remarks(options: OptionView) -> Iterator[str]:
    """Options of uploads and downloads that are off."""
    if options.resume_from_huggingface and options.resume is None:
        yield (
            f"{options.at('resume_from_huggingface')}: has no effect without --resume, the state's name on the Hub "
            "(owner/repository/path:revision:type)"
        )
    if options.save_state_to_huggingface and not options.save_state:
        yield f"{options.at('save_state_to_huggingface')}: has no effect without --save_state: there are no states to upload"
    if options.huggingface_repo_visibility not in (None, "public", "private"):
        visibility = options.huggingface_repo_visibility
        yield f"{options.at('huggingface_repo_visibility')}: {quoted(visibility)} is not public, so a new repository is made private"
    for field in ("huggingface_path_in_repo", "huggingface_repo_visibility", "save_state_to_huggingface", "async_upload"):
        if getattr(options, field) and options.huggingface_repo_id is None:
            yield f"{options.at(field)}: has no effect without --huggingface_repo_id"
