"""Finds what cannot work before anything heavy is loaded: missing paths, contradictions, options not built yet. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from library.console import log
from library.errors import UserError
from library.options.declare import Script, options_of, values_of
from library.options.loss_rules import averaging, loss_remarks, noise_and_loss
from library.options.not_yet import refusal
from library.options.rate_rules import rate_remarks, rates
from library.options.suggest import closest, missing_path

Rule = Callable[["Given"], Iterator[str]]


class Given:
    """The values of a script's options; an option that the script does not have reads as not given."""

    def __init__(self, options: Script) -> None:
        self.options = options
        self._values = values_of(options)

    def __getattr__(self, field: str) -> Any:
        return self._values.get(field)

    def at(self, field: str) -> str:
        """How an error line about the option begins: where its value stood."""
        return self.options.origin(field)


def check(options: Script) -> None:
    """Raise UserError with all that is wrong with the options together; log what works but is probably not meant."""
    given = Given(options)
    problems = [problem for rule in (_not_built, _required, *RULES, _paths) for problem in rule(given)]
    if problems:
        raise UserError(*dict.fromkeys(problems))
    for remark in _remarks(given):
        log.warning("%s", remark)


def _not_built(given: Given) -> Iterator[str]:
    for option in options_of(type(given.options)):
        reason = refusal(option.field, getattr(given, option.field), option.default)
        if reason:
            yield f"{given.at(option.field)}: {reason}"


def _required(given: Given) -> Iterator[str]:
    for option in options_of(type(given.options)):
        if option.field in type(given.options).required and not getattr(given, option.field):
            yield f"--{option.field} is missing: {option.help.removesuffix(' Always needed.')}"


def _data_source(given: Given) -> Iterator[str]:
    old = [field for field in ("train_data_dir", "reg_data_dir", "in_json") if getattr(given, field) is not None]
    if given.dataset_config is not None:
        for field in old:
            yield f"{given.at(field)}: cannot be used together with --dataset_config, which names the images itself; leave one of them out"
    elif given.train_data_dir is None:
        reason = f"; {given.at(old[0])} alone is not enough" if old else ""
        yield f"--dataset_config or --train_data_dir is missing: one of them has to name the training images{reason}"
    elif given.reg_data_dir is not None and given.in_json is not None:
        yield f"{given.at('reg_data_dir')}: regularization images cannot be used together with --in_json; leave one of them out"
    if given.dataset_config is None and given.train_data_dir is not None and given.in_json is None and given.resolution is None:
        yield "--resolution is missing: --train_data_dir needs the size to train at, such as --resolution 512"


def _resolution(given: Given) -> Iterator[str]:
    if given.resolution is None:
        return
    try:
        sides = [int(side) for side in given.resolution.replace("x", ",").split(",")]
    except ValueError:
        sides = []
    if not 1 <= len(sides) <= 2 or min(sides) < 1 or "x" in given.resolution:
        yield f"{given.at('resolution')}: expected pixels as 512 or width,height as 512,768, not {given.resolution!r}"
    elif given.train_data_dir is not None and not given.enable_bucket and any(side % 8 for side in sides):
        nearest = ",".join(str(max(8, round(side / 8) * 8)) for side in sides)
        yield f"{given.at('resolution')}: each side must be a multiple of 8 pixels, not {given.resolution}; the nearest is {nearest}"


def _buckets(given: Given) -> Iterator[str]:
    if given.min_bucket_reso > given.max_bucket_reso:
        yield (
            f"{given.at('min_bucket_reso')}: {given.min_bucket_reso} is more than --max_bucket_reso {given.max_bucket_reso}; "
            "the smallest side cannot exceed the largest"
        )
    if given.bucket_reso_steps % 8:
        steps = given.bucket_reso_steps
        yield f"{given.at('bucket_reso_steps')}: must be a multiple of 8 pixels, not {steps}; the nearest is {max(8, round(steps / 8) * 8)}"


def _augmentation(given: Given) -> Iterator[str]:
    for cache in ("cache_latents", "cache_latents_to_disk"):
        for field in ("color_aug", "random_crop", "face_crop_aug_range"):
            if getattr(given, cache) and getattr(given, field):
                yield f"{given.at(field)}: changes the images in each epoch and cannot be used with --{cache}; leave one of them out"
    if given.face_crop_aug_range is not None:
        try:
            low, high = (float(part) for part in given.face_crop_aug_range.split(","))
            fits = 1 <= low <= high
        except ValueError:
            fits = False
        if not fits:
            found = given.face_crop_aug_range
            yield f"{given.at('face_crop_aug_range')}: expected two numbers a,b with 1 <= a <= b, such as 2.0,4.0, not {found!r}"


def _noise(given: Given) -> Iterator[str]:
    if given.adaptive_noise_scale is not None and given.noise_offset is None:
        yield f"{given.at('adaptive_noise_scale')}: changes the noise offset, and none is given; add --noise_offset 0.1 or leave it out"
    if given.scale_v_pred_loss_like_noise_pred and not given.v_parameterization:
        yield f"{given.at('scale_v_pred_loss_like_noise_pred')}: is for models trained with --v_parameterization only; leave it out"


def _optimizer(given: Given) -> Iterator[str]:
    older = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}
    if given.use_8bit_adam and given.use_lion_optimizer:
        yield f"{given.at('use_8bit_adam')}: cannot be used together with --use_lion_optimizer; choose one optimizer"
    for field, meant in older.items():
        if getattr(given, field) and given.optimizer_type and given.optimizer_type.lower() != meant.lower():
            yield f"{given.at(field)}: means {meant}, but --optimizer_type says {given.optimizer_type}; leave one of them out"
    if given.max_train_epochs is None and given.lr_warmup_steps > given.max_train_steps:  # a fraction never is
        yield (
            f"{given.at('lr_warmup_steps')}: {given.lr_warmup_steps} is more than --max_train_steps {given.max_train_steps}; "
            "the learning rate would never reach its value"
        )
    for field in ("optimizer_args", "lr_scheduler_args", "network_args"):
        for part in getattr(given, field) or ():
            if not part.partition("=")[0].strip() or "=" not in part:
                yield f"{given.at(field)}: expected key=value, not {part!r} (no spaces around the equals sign)"


def _attention(given: Given) -> Iterator[str]:
    chosen = [field for field in ("xformers", "mem_eff_attn", "sdpa") if getattr(given, field)]
    if len(chosen) > 1:
        yield f"{given.at(chosen[0])}: cannot be used together with {' and '.join('--' + field for field in chosen[1:])}; choose one"


def _precision(given: Given) -> Iterator[str]:
    if given.full_fp16 and given.full_bf16:
        yield f"{given.at('full_bf16')}: cannot be used together with --full_fp16; choose one"
        return
    for field, needed in (("full_fp16", "fp16"), ("full_bf16", "bf16")):
        if getattr(given, field) and given.mixed_precision != needed:
            yield f"{given.at(field)}: needs --mixed_precision {needed} (it is {given.mixed_precision})"
    if given.fp8_base and given.options.name in ("train_db.py", "fine_tune.py"):
        yield (
            f"{given.at('fp8_base')}: keeps frozen weights in 8 bits, and this script trains the weights themselves; "
            "use --full_bf16, or train a LoRA with train_network.py"
        )
    elif given.fp8_base and given.network_module and not given.network_module.startswith("networks."):
        yield (
            f"{given.at('fp8_base')}: {given.network_module} reads the model's weights itself and does not know float8; "
            "use --network_module networks.lora, or leave --fp8_base out"
        )


def _network(given: Given) -> Iterator[str]:
    if given.network_module and not _is_module(given.network_module):
        name = given.network_module
        near = closest(name.removesuffix(".py").strip("./\\").replace("/", ".").replace("\\", "."), ["networks.lora", "lycoris.kohya"])
        package = {"lycoris": "lycoris-lora"}.get(name.partition(".")[0], "its package")
        remedy = f"did you mean {near}?" if near and near != name else f"install {package} first, or use networks.lora"
        yield f"{given.at('network_module')}: there is no module {name}; {remedy}"
    if given.network_train_unet_only and given.network_train_text_encoder_only:
        yield f"{given.at('network_train_unet_only')}: cannot be used with --network_train_text_encoder_only; nothing would be trained"
    if given.dim_from_weights and given.network_weights is None:
        yield f"{given.at('dim_from_weights')}: takes the rank from --network_weights, which is missing"
    weights, factors = given.base_weights or (), given.base_weights_multiplier or ()
    if len(factors) > len(weights):
        yield f"{given.at('base_weights_multiplier')}: {len(factors)} multipliers for {len(weights)} --base_weights; give one for each file"


def _full_model(given: Given) -> Iterator[str]:
    if given.no_token_padding and (given.max_token_length or 75) > 75:
        yield f"{given.at('no_token_padding')}: cannot be used with --max_token_length {given.max_token_length}; leave one of them out"
    both = [field for field in ("mem_eff_attn", "sdpa") if getattr(given, field)]
    if given.diffusers_xformers and both:
        yield f"{given.at('diffusers_xformers')}: cannot be used together with --{both[0]}; choose one"


def _word(given: Given) -> Iterator[str]:
    if given.weights and given.init_word:
        yield f"{given.at('init_word')}: cannot be used with --weights, which says where training starts; leave one of them out"


def _saving(given: Given) -> Iterator[str]:
    if given.output_dir is not None:
        yield from _writable(given, "output_dir")
    if given.logging_dir is not None:
        yield from _writable(given, "logging_dir")
    name = given.output_name or ""
    bad = sorted(set(name) & set("/\\" + ('<>:"|?*' if os.name == "nt" else "")))
    if bad:
        yield f"{given.at('output_name')}: {name!r} cannot be a file name because of {' '.join(bad)}; name the folder with --output_dir"


def _sampling(given: Given) -> Iterator[str]:
    for field in ("sample_every_n_steps", "sample_every_n_epochs", "sample_at_first"):
        if getattr(given, field) and given.sample_prompts is None:
            yield f"{given.at(field)}: needs --sample_prompts, the file with the prompts of the samples"


def _logging(given: Given) -> Iterator[str]:
    if given.log_with is not None and given.log_with != "wandb" and given.logging_dir is None:
        yield f"{given.at('log_with')}: {given.log_with} needs --logging_dir, the folder of the log"
    if given.log_with in ("wandb", "all") and not _is_module("wandb"):
        yield f"{given.at('log_with')}: {given.log_with} needs the package wandb: pip install wandb"


def _hub(given: Given) -> Iterator[str]:
    name = given.huggingface_repo_id
    if name is not None and (name.count("/") != 1 or not all(name.split("/"))):
        yield f"{given.at('huggingface_repo_id')}: expected owner/name, such as me/my-model, not {name!r}"
    if given.huggingface_repo_type not in (None, "model", "dataset", "space"):
        yield f"{given.at('huggingface_repo_type')}: is model, dataset or space, not {given.huggingface_repo_type!r}"
    if given.resume_from_huggingface and given.resume is None:
        yield f"{given.at('resume_from_huggingface')}: needs --resume, the state's name on the Hub (owner/repository/path:revision:type)"
    if given.save_state_to_huggingface and not given.save_state:
        yield f"{given.at('save_state_to_huggingface')}: needs --save_state; without it there are no states to upload"


RULES: tuple[Rule, ...] = (
    _data_source, _resolution, _buckets, _augmentation, _noise, noise_and_loss, averaging, rates, _optimizer, _attention, _precision,
    _network, _full_model, _word, _saving, _sampling, _logging, _hub,
)  # fmt: skip


def _paths(given: Given) -> Iterator[str]:
    """Everything that must already be there is there, and is what it should be: a file or a folder."""
    for field in ("train_data_dir", "reg_data_dir", "conditioning_data_dir"):
        value = getattr(given, field)
        if value is not None and Path(value).is_file():
            yield f"{given.at(field)}: {value} is a file; give the folder"
        elif value is not None and not Path(value).is_dir():
            yield f"{given.at(field)}: {value}: {missing_path(Path(value), folder=True)}"
    if given.resume is not None and not given.resume_from_huggingface and not Path(given.resume).is_dir():
        found = "is a file; give the folder" if Path(given.resume).exists() else missing_path(Path(given.resume), folder=True)
        yield f"{given.at('resume')}: {given.resume}: {found}"
    for field in ("dataset_config", "in_json", "network_weights", "weights", "sample_prompts", "log_tracker_config"):
        value = getattr(given, field)
        if value is not None:
            yield from _file(given, field, Path(value))
    for value in given.base_weights or ():
        yield from _file(given, "base_weights", Path(value))
    for field in ("pretrained_model_name_or_path", "vae"):
        value = getattr(given, field)
        if value is not None and not Path(value).exists() and _is_path(value):
            yield f"{given.at(field)}: {value}: {missing_path(Path(value), folder=not Path(value).suffix)}"


def _is_module(name: str) -> bool:
    """Whether the module can be there, as far as it shows without importing a package that may be large."""
    package, _, rest = name.partition(".")
    try:
        found = find_spec(package)
        return found is not None and (package != "networks" or not rest or find_spec(name) is not None)
    except (ImportError, ValueError):
        return False


def _file(given: Given, field: str, path: Path) -> Iterator[str]:
    if path.is_dir():
        yield f"{given.at(field)}: {path} is a folder; give the file itself"
    elif not path.exists():
        yield f"{given.at(field)}: {path}: {missing_path(path)}"


def _is_path(name: str) -> bool:
    """Whether a model's name can only be a path, not a Hugging Face id such as owner/model."""
    ending = Path(name).suffix.lower() in (".ckpt", ".safetensors", ".pt", ".pth", ".bin")
    return ending or "\\" in name or name.startswith((".", "/", "~")) or name.count("/") > 1 or name[1:2] == ":" or name.endswith("/")


def _writable(given: Given, field: str) -> Iterator[str]:
    folder = Path(getattr(given, field))
    standing = next((part for part in (folder, *folder.absolute().parents) if part.exists()), None)
    if standing is None:
        yield f"{given.at(field)}: {folder}: there is no such drive; give a folder that can be made"
    elif not standing.is_dir():
        which = f"{folder}: " if folder != standing else ""
        yield f"{given.at(field)}: {which}{standing} is a file, not a folder; give another folder"
    elif not os.access(standing, os.W_OK | os.X_OK):
        yield f"{given.at(field)}: {folder}: no right to write in {standing}; give another folder"


def _remarks(given: Given) -> Iterator[str]:
    """What is accepted as it always was, but hardly meant so."""
    yield from loss_remarks(given)
    yield from rate_remarks(given)
    if given.sample_prompts is not None and not (given.sample_every_n_steps or given.sample_every_n_epochs or given.sample_at_first):
        yield f"{given.at('sample_prompts')}: no samples are made without --sample_every_n_steps or --sample_every_n_epochs"
    if given.max_train_epochs is None and (given.stop_text_encoder_training or 0) >= given.max_train_steps:
        yield f"{given.at('stop_text_encoder_training')}: has no effect: training ends at step {given.max_train_steps}"
    if given.use_object_template and given.use_style_template:
        yield f"{given.at('use_style_template')}: has no effect beside --use_object_template; leave one of them out"
    if given.base_weights_multiplier and len(given.base_weights_multiplier) < len(given.base_weights):
        yield f"{given.at('base_weights_multiplier')}: fewer multipliers than --base_weights; the remaining files are merged at strength 1"
    if given.save_last_n_epochs is not None and given.save_every_n_epochs is None and given.save_n_epoch_ratio is None:
        yield f"{given.at('save_last_n_epochs')}: has no effect without --save_every_n_epochs"
    if given.save_last_n_steps is not None and given.save_every_n_steps is None:
        yield f"{given.at('save_last_n_steps')}: has no effect without --save_every_n_steps"
    if given.skip_until_initial_step and given.initial_step is None and given.initial_epoch is None and given.resume is None:
        yield f"{given.at('skip_until_initial_step')}: has no effect without --initial_step"
    if given.initial_step is not None and given.initial_epoch is not None:
        yield f"{given.at('initial_epoch')}: has no effect beside --initial_step"
    for field in ("save_last_n_epochs_state", "save_last_n_steps_state"):
        if getattr(given, field) is not None and not given.save_state:
            yield f"{given.at(field)}: has no effect without --save_state"
    if given.report_html is not None and not given.dry_run:
        yield f"{given.at('report_html')}: has no effect without --dry_run"
    if given.resume_lr != "keep" and given.resume is None:
        yield f"{given.at('resume_lr')}: has no effect without --resume"
    if (given.output_name or "").endswith((".safetensors", ".ckpt", ".pt")):
        yield f"{given.at('output_name')}: give it without the ending, which is added"
    for field in ("log_prefix", "log_tracker_name", "log_tracker_config"):
        if getattr(given, field) is not None and given.logging_dir is None and given.log_with != "wandb":
            yield f"{given.at(field)}: has no effect without --logging_dir"
    if given.wandb_api_key is not None and given.log_with not in ("wandb", "all"):
        yield f"{given.at('wandb_api_key')}: has no effect without --log_with wandb"
    for field in ("huggingface_path_in_repo", "huggingface_repo_visibility", "save_state_to_huggingface", "async_upload"):
        if getattr(given, field) and given.huggingface_repo_id is None:
            yield f"{given.at(field)}: has no effect without --huggingface_repo_id"
