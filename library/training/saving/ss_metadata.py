"""What a saved network records about its training, under the `ss_*` keys that other programs read (SPEC R7)."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from library.files import sha256
from library.options.declare import options_table
from library.options.groups.saving import SavingOptions
from library.options.groups.scripts import TrainingScript
from library.paths.look import exists, is_file
from library.paths.opening import open_file
from library.training.saving.model_spec import own_words
from library.training.saving.privacy import private

# Options whose value is recorded unchanged under "ss_" + name; only this suite writes and reads the keys of the second part.
RECORDED_OPTIONS = (
    "output_name learning_rate gradient_checkpointing gradient_accumulation_steps lr_warmup_steps lr_scheduler "
    "mixed_precision full_fp16 v2 clip_skip max_token_length cache_latents lowram noise_offset multires_noise_iterations "
    "multires_noise_discount adaptive_noise_scale zero_terminal_snr training_comment max_grad_norm caption_dropout_rate "
    "caption_dropout_every_n_epochs caption_tag_dropout_rate face_crop_aug_range prior_loss_weight min_snr_gamma "
    "ip_noise_gamma loss_type huber_schedule huber_c noise_offset_random_strength ip_noise_gamma_random_strength "
).split() + (
    "lr_scheduler_type lr_scheduler_args lr_scheduler_num_cycles lr_scheduler_power max_train_epochs weighted_captions "
    "scale_v_pred_loss_like_noise_pred network_train_unet_only network_train_text_encoder_only"
).split()
PRIOR_OPTIONS = ("prior_from_base", "prior_prompt", "prior_identifier", "prior_share")  # recorded if the first is set
_OTHER_NAMES = {"debiased_estimation_loss": "ss_debiased_estimation"}  # options whose key in the ecosystem has another name

# What `--no_metadata` still records: without these keys a LoRA cannot be used or identified.
MINIMAL_KEYS = ("ss_v2", "ss_base_model_version", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_network_args")


class ModelHash:
    """Hashes of a model file for `prefix` (sd_model, vae), computed in the background: it takes seconds, and only a save needs them."""

    def __init__(self, prefix: str, source: str | None):
        self._values: dict[str, str] = {}
        if source is None:
            self._thread = None
            return
        path = Path(source)
        self._values[f"ss_{prefix}_name"] = path.name if exists(path) else source
        self._thread = threading.Thread(target=self._compute, args=(prefix, path), daemon=True) if is_file(path) else None
        if self._thread is not None:
            self._thread.start()

    def _compute(self, prefix: str, path: Path) -> None:
        self._values[f"ss_{prefix}_hash"] = legacy_hash(path)
        self._values[f"ss_new_{prefix}_hash"] = sha256(path)

    def values(self) -> dict[str, str]:
        """Return the keys and values; waits for the hashes."""
        if self._thread is not None:
            self._thread.join()
        return dict(self._values)


def legacy_hash(path: Path) -> str:
    """The short hash by which older web interfaces identify a model: SHA-256 of 64 KiB at 1 MiB, its first 8 hex digits."""
    with open_file(path) as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def run_metadata(
    options: TrainingScript,
    *,
    started: float,
    session: int,
    seed: int,
    base_version: str,
    optimizer: str,
    plan: Mapping[str, Any],
    data: Mapping[str, Any],
    method: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> dict[str, str]:
    """Return all keys except those of the moment (`moment_metadata`); every value is a string, as safetensors requires.

    `session` is one number for all files of a run.
    """
    table = options_table(options)
    values: dict[str, Any] = {f"ss_{name}": table[name] for name in RECORDED_OPTIONS if name in table}
    values |= {key: table[name] for name, key in _OTHER_NAMES.items() if name in table}
    if options.model.train_inpainting:
        values["ss_train_inpainting"] = True
    if options.data.prior_from_base is not None:
        values |= {f"ss_{name}": table[name] for name in PRIOR_OPTIONS}
    values["ss_cache_latents"] = options.data.cache_latents or options.data.cache_latents_to_disk  # caching to disk implies caching
    values |= {
        "ss_session_id": session,
        "ss_training_started_at": started,
        "ss_seed": seed,
        "ss_base_model_version": base_version,
        "ss_optimizer": optimizer,
        **plan,
        **data,
        **method,
        **hashes,
    }
    return {key: as_text(value) for key, value in private(values, options.saving.metadata_privacy).items()}


def moment_metadata(epoch: int, step: int) -> dict[str, str]:
    """Return what differs between the files of one run."""
    return {"ss_epoch": str(epoch), "ss_steps": str(step), "ss_training_finished_at": str(time.time())}


def minimal(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what `--no_metadata` still records."""
    return {key: metadata[key] for key in MINIMAL_KEYS if key in metadata}


def minimal_spec(spec: Mapping[str, str], options: SavingOptions) -> dict[str, str]:
    """Return what `--no_metadata` still records of `modelspec.*`: what a program needs to load the file, and the user's own entries."""
    words = {f"modelspec.{word}" for word in own_words(options)}
    needed = {f"modelspec.{key}" for key in ("sai_model_spec", "architecture", "implementation", "prediction_type")}
    return {key: value for key, value in spec.items() if key in needed | words}


def as_text(value: object) -> str:
    """Format a value as the ecosystem does: JSON for containers, Python's `str` for everything else ("None", "True")."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else str(value)
