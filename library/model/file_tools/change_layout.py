"""Convert a model between the layouts, original file and Diffusers folder: load it and write it again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from library.console import log
from library.containers.dtypes import torch_dtype
from library.containers.weights_file import open_weights
from library.errors import UserError, coded
from library.model.configs import GROUPS
from library.model.diffusers_folder import save_diffusers
from library.model.family import V1, V2, ModelFamily
from library.model.file_tools.recast import refuse_too_large
from library.model.files import keys
from library.model.files.facts import ModelFacts, inspect, read_json
from library.model.files.locate import locate, part_weights
from library.model.save import FLOATS, save_checkpoint
from library.paths.look import is_file

if TYPE_CHECKING:
    import torch

    from library.model.bundle import StableDiffusion

OPTION = "model_to_load"


def change_layout(
    source: str,
    target: Path,
    dtype: torch.dtype | None,
    *,
    says_v1: bool,
    says_v2: bool,
    v_parameterization: bool,
    metadata: Mapping[str, str],
    trained: tuple[int, int],
    reference: str | None,
    variant: str | None,
    safetensors: bool,
) -> None:
    """Write the model `source` to `target`, a .safetensors or .ckpt file or a Diffusers folder, in `dtype` (None: that of its U-Net).

    `reference` names the Diffusers model whose scheduler settings the folder gets. Raises UserError for flags that contradict the model.
    """
    facts = inspect(source, OPTION)
    check_family(says_v1, says_v2, facts.family)
    if not facts.has_vae:
        raise UserError(coded("MODEL-008", f"{OPTION} {facts.path.name}: has no VAE, which a complete model needs"))
    source_dtype = _dtype_of(facts, source)
    model = _load(facts, source, source_dtype, v_parameterization)
    if dtype is not None:
        for part, network in model.parts.items():
            for name, tensor in network.state_dict().items():
                refuse_too_large(f"{OPTION} {source}: {part}: {name}", tensor, tensor.to(dtype))
    to_file = target.suffix.lower() in (".safetensors", ".ckpt")
    if to_file and facts.layout == "diffusers":
        _refuse_unrecorded(model, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    if to_file:
        save_checkpoint(model, target, dtype or source_dtype, dict(metadata) or None, trained)
        return
    if reference is not None:
        model.source = replace(facts, layout="diffusers", path=_with_scheduler(reference))
    save_diffusers(model, target, dtype or source_dtype, safetensors, variant)


def check_family(says_v1: bool, says_v2: bool, family: ModelFamily | None) -> None:
    """Raise UserError if a flag contradicts the file; `family` None: no recognized model."""
    for said, meant in ((says_v1, V1), (says_v2, V2)):
        if said and family not in (None, meant):
            raise UserError(coded("MODEL-007", f"--{meant.name}: {OPTION} is a {family.title} model; remove the flag"))


def _dtype_of(facts: ModelFacts, source: str) -> torch.dtype:
    """The dtype that most of the U-Net's tensors have in the file."""
    if facts.layout != "diffusers":
        infos = {name: info for name, info in open_weights(facts.path, OPTION).infos.items() if name.startswith(keys.UNET)}
    else:
        folder = locate(source, OPTION) / "unet"
        infos = dict(open_weights(part_weights(folder, OPTION), OPTION).infos)
    kinds = Counter(info.dtype for info in infos.values() if info.dtype in FLOATS)
    return torch_dtype(kinds.most_common(1)[0][0] if kinds else "F32")


def _load(facts: ModelFacts, source: str, source_dtype: torch.dtype, v_parameterization: bool) -> StableDiffusion:
    import torch

    from library.model.load import load
    from library.model.probe import looks_like_epsilon

    velocity = v_parameterization or facts.prediction == "v_prediction"
    unsure = len(facts.family.predictions) > 1 and facts.prediction is None and not velocity
    dtype = torch.float32 if unsure else source_dtype
    model = load(source, v2=facts.family is V2, v_parameterization=velocity, dtype=dtype, option=OPTION)
    if unsure and looks_like_epsilon(model) is False:
        model.prediction = "v_prediction"
        log.info("the model predicts velocity, according to the folder's scheduler")
    return model


def _refuse_unrecorded(model: StableDiffusion, source: str) -> None:
    """Raise UserError for settings of a folder that a single file does not record, so that programs would compute something else."""
    unet = model.unet.config
    settings: list[tuple[str, str, object, object]] = [
        ("unet", "attention_head_dim", unet.attention_head_dim, model.family.unet.heads_of(unet.block_out_channels)),
        ("unet", "norm_num_groups", unet.norm_num_groups, GROUPS),
        ("vae", "norm_num_groups", model.vae.config.norm_num_groups, GROUPS),
    ]
    for part, encoder in zip(model.family.text_parts, model.text_encoders, strict=True):
        settings.append((part, "hidden_act", encoder.config.hidden_act, model.family.text_parts[part].activation))
    for part, name, value, usual in settings:
        if value != usual and not (isinstance(value, list) and set(value) == {usual}):
            raise UserError(
                coded(
                    "MODEL-012",
                    f"{OPTION} {source}: {part}/config.json: {name} is {value}, which a single file does not record: programs would use "
                    f"{usual}; convert to a Diffusers folder",
                )
            )


def _with_scheduler(reference: str) -> Path:
    folder = locate(reference, "--reference_model", with_weights=False)
    if not is_file(folder / "scheduler" / "scheduler_config.json"):
        raise UserError(
            coded("MODEL-004", f"--reference_model {reference}: has no scheduler/scheduler_config.json; give a Diffusers folder")
        )
    settings = read_json(folder / "scheduler" / "scheduler_config.json", "--reference_model")
    kind = (settings or {}).get("prediction_type", "epsilon")
    if settings is None or kind not in ("epsilon", "v_prediction", "sample"):
        what = f"prediction_type is {json.dumps(kind)}, expected epsilon or v_prediction" if settings else "is not a table of settings"
        raise UserError(coded("MODEL-012", f"--reference_model {folder / 'scheduler' / 'scheduler_config.json'}: {what}; correct it"))
    return folder
