"""What is wrong, or hardly meant so, with the options of what a run writes: products, states, samples, logs, uploads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from library.errors import Problem, coded
from library.options.groups.scripts import TrainingScript
from library.options.rules.option_view import Given
from library.options.rules.path_rules import asks_for_samples, is_module
from library.packages import install_command
from library.paths.faults import part_fault
from library.paths.look import Thing, exists, look, real
from library.windows_names import length_fault, name_fault, only_short_paths, path_fault
from library.words import quoted

LONGEST_NAME = 180  # bytes; a file system takes 255, a sample's name while it is written adds 65


def saving(given: Given) -> Iterator[Problem]:
    """A name that a file can have."""
    name = given.output_name or ""
    bad = sorted(set(name) & set("/\\"))
    if bad:
        why = f"cannot be a file name because of {' '.join(bad)}"
        yield coded("PATH-009", f"{given.at('output_name')}: {quoted(name)} {why}; name the folder with --output_dir")
    suffixes = given.options.product_suffixes if isinstance(given.options, TrainingScript) else ("",)
    length = max(len(f"{name}{suffix}".encode("utf-8", "surrogatepass")) for suffix in suffixes)
    if length > LONGEST_NAME:
        yield coded(
            "PATH-008",
            f"{given.at('output_name')}: has {length} bytes, and at most {LONGEST_NAME} leave space for the suffixes; shorten it",
        )
    elif not bad and (fault := part_fault(name)):
        yield fault.reworded(f"{given.at('output_name')}: {fault}")
    yield from _not_in_the_way(given)
    if os.name == "nt":
        yield from on_windows(given, only_short_paths())


def _not_in_the_way(given: Given) -> Iterator[Problem]:
    """A folder that has the name of the product."""
    if given.output_dir is None or given.save_model_as in ("diffusers", "diffusers_safetensors"):
        return
    suffixes = given.options.product_suffixes if isinstance(given.options, TrainingScript) else ("",)
    for suffix in suffixes:
        product = Path(given.output_dir) / f"{given.output_name or 'last'}{suffix}.{given.save_model_as or 'safetensors'}"
        seen = look(product)
        if seen.thing is Thing.SPECIAL:
            what = seen.fault.partition("; ")[0]
            yield coded(
                "PATH-007", f"{given.at('output_name')}: {product} {what}, and the result would have the same name; choose another name"
            )
        if seen.thing is Thing.FOLDER:
            yield coded(
                "PATH-002",
                f"{given.at('output_name')}: {product} is a folder, and the result would have the same name; remove it or choose another",
            )


def on_windows(given: Given, only_short: bool) -> Iterator[Problem]:
    """Names that Windows has not, and where `only_short` paths are allowed those that grow too long."""
    if given.output_name and (fault := name_fault(given.output_name)):
        yield coded("PATH-009", f"{given.at('output_name')}: {quoted(given.output_name)} cannot be a file name: {fault}; choose another")
    for field, path in (("output_dir", "{}"), ("logging_dir", "{}"), ("log_prefix", "./{}20261231"), ("log_tracker_name", "./{}")):
        folder = getattr(given, field)
        if folder is not None and (fault := path_fault(path.format(folder))):
            yield coded("PATH-009", f"{given.at(field)}: {quoted(str(folder))} cannot be a folder: {fault}; choose another")
    if only_short and given.output_dir is not None and (fault := length_fault(Path(given.output_dir), [given.output_name or ""])):
        yield coded("PATH-008", f"{given.at('output_dir')}: {fault}")


def sampling(given: Given) -> Iterator[Problem]:
    """Samples that have their prompts."""
    for field in ("sample_every_n_steps", "sample_every_n_epochs", "sample_at_first"):
        if getattr(given, field) and given.sample_prompts is None:
            yield coded("OPT-009", f"{given.at(field)}: needs --sample_prompts, the file with the prompts")


def logs(given: Given) -> Iterator[Problem]:
    """Logs that have their folder and package."""
    if given.log_with is not None and given.log_with != "wandb" and given.logging_dir is None:
        yield coded("OPT-009", f"{given.at('log_with')}: {given.log_with} needs --logging_dir, the folder of the log")
    if given.log_with in ("wandb", "all") and not is_module("wandb"):
        yield coded("PKG-001", f"{given.at('log_with')}: {given.log_with} needs the package wandb: {install_command('wandb')}")


def hub(given: Given) -> Iterator[Problem]:
    """Names on the Hub."""
    name = given.huggingface_repo_id
    if name is not None and (name.count("/") != 1 or not all(name.split("/"))):
        yield coded("HUB-001", f"{given.at('huggingface_repo_id')}: expected owner/name, such as me/my-model, not {quoted(name)}")
    if given.huggingface_repo_type not in (None, "model", "dataset", "space"):
        yield coded(
            "HUB-001", f"{given.at('huggingface_repo_type')}: must be model, dataset or space, not {quoted(given.huggingface_repo_type)}"
        )


def sampling_remarks(given: Given) -> Iterator[str]:
    """Samples that are never made."""
    if given.sample_prompts is None:
        if given.sample_seed is not None:
            yield f"{given.at('sample_seed')}: has no effect without --sample_prompts"
        return
    if asks_for_samples(given) and not exists(Path(given.sample_prompts)):
        yield f"{given.at('sample_prompts')}: {given.sample_prompts} does not exist; no samples are generated until it does"
    elif not asks_for_samples(given):
        yield f"{given.at('sample_prompts')}: no samples are generated without --sample_every_n_steps or --sample_every_n_epochs"


def saving_remarks(given: Given) -> Iterator[str]:
    """What has no effect on files, states and where a run begins."""
    if given.save_last_n_epochs is not None and given.save_every_n_epochs is None and given.save_n_epoch_ratio is None:
        yield f"{given.at('save_last_n_epochs')}: has no effect without --save_every_n_epochs"
    if given.save_last_n_steps is not None and given.save_every_n_steps is None:
        yield f"{given.at('save_last_n_steps')}: has no effect without --save_every_n_steps"
    if given.save_from_epoch is not None and given.save_every_n_epochs is None and given.save_n_epoch_ratio is None:
        yield f"{given.at('save_from_epoch')}: has no effect without --save_every_n_epochs"
    late = [step for step in given.save_at_steps or () if given.max_train_epochs is None and step >= given.max_train_steps]
    if late:
        steps = ", ".join(map(str, late))
        yield f"{given.at('save_at_steps')}: {steps}: training ends at update {given.max_train_steps}, where it always saves"
    if given.skip_until_initial_step and given.initial_step is None and given.initial_epoch is None and given.resume is None:
        yield f"{given.at('skip_until_initial_step')}: has no effect without --initial_step"
    if given.initial_step is not None and given.initial_epoch is not None:
        yield f"{given.at('initial_epoch')}: has no effect with --initial_step"
    for field in ("save_last_n_epochs_state", "save_last_n_steps_state"):
        if getattr(given, field) is not None and not given.save_state:
            yield f"{given.at(field)}: has no effect without --save_state"
    if given.report_html is not None and not given.dry_run:
        yield f"{given.at('report_html')}: has no effect without --dry_run"
    if given.resume_lr != "keep" and given.resume is None:
        yield f"{given.at('resume_lr')}: has no effect without --resume"
    if given.spare_dir and given.output_dir and real(given.spare_dir) == real(given.output_dir):
        yield f"{given.at('spare_dir')}: has no effect, it is --output_dir; choose a folder on another disk"
    if (given.output_name or "").endswith((".safetensors", ".ckpt", ".pt")):
        yield f"{given.at('output_name')}: write it without the extension, which is added automatically"


def log_remarks(given: Given) -> Iterator[str]:
    """What no log is told."""
    for field in ("log_prefix", "log_tracker_name", "log_tracker_config"):
        if getattr(given, field) is not None and given.logging_dir is None and given.log_with != "wandb":
            yield f"{given.at(field)}: has no effect without --logging_dir"
    if given.wandb_api_key is not None and given.log_with not in ("wandb", "all"):
        yield f"{given.at('wandb_api_key')}: has no effect without --log_with wandb"


def hub_remarks(given: Given) -> Iterator[str]:
    """What is said of uploads and downloads that are not made."""
    if given.resume_from_huggingface and given.resume is None:
        yield (
            f"{given.at('resume_from_huggingface')}: has no effect without --resume, the state's name on the Hub "
            "(owner/repository/path:revision:type)"
        )
    if given.save_state_to_huggingface and not given.save_state:
        yield f"{given.at('save_state_to_huggingface')}: has no effect without --save_state: there are no states to upload"
    if given.huggingface_repo_visibility not in (None, "public", "private"):
        visibility = given.huggingface_repo_visibility
        yield f"{given.at('huggingface_repo_visibility')}: {quoted(visibility)} is not public, so a new repository is made private"
    for field in ("huggingface_path_in_repo", "huggingface_repo_visibility", "save_state_to_huggingface", "async_upload"):
        if getattr(given, field) and given.huggingface_repo_id is None:
            yield f"{given.at(field)}: has no effect without --huggingface_repo_id"
