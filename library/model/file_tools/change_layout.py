"""Convert a model between the layouts, original file and Diffusers folder: load it and write it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from library.console import log
from library.containers.dtypes import torch_dtype
from library.containers.weights_file import open_weights
from library.errors import UserError, coded
from library.model.diffusers_folder import save_diffusers
from library.model.family import V1, V2, ModelFamily
from library.model.files import keys
from library.model.files.facts import ModelFacts, inspect
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
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix.lower() in (".safetensors", ".ckpt"):
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
    model = load(source, v2=facts.family is V2, v_parameterization=velocity, dtype=torch.float32 if unsure else source_dtype)
    if unsure and looks_like_epsilon(model) is False:
        model.prediction = "v_prediction"
        log.info("the model predicts velocity, according to the folder's scheduler")
    return model


def _with_scheduler(reference: str) -> Path:
    folder = locate(reference, "--reference_model", with_weights=False)
    if not is_file(folder / "scheduler" / "scheduler_config.json"):
        raise UserError(
            coded("MODEL-004", f"--reference_model {reference}: has no scheduler/scheduler_config.json; give a Diffusers folder")
        )
    return folder
