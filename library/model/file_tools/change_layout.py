"""A model from one layout to the other, original file or Diffusers folder, loaded and written again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from library.console import log
from library.errors import UserError
from library.model.diffusers_folder import save_diffusers
from library.model.files import keys
from library.model.files.dtypes import torch_dtype
from library.model.files.facts import ModelFacts, inspect
from library.model.files.locate import locate, weights_of_part
from library.model.files.weights_file import TensorInfo, open_weights
from library.model.save import FLOATS, save_checkpoint

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

    `reference` names the Diffusers model whose scheduler settings the folder gets; UserError for flags that contradict the model.
    """
    facts = inspect(source, OPTION)
    check_version(says_v1, says_v2, facts.version)
    if not facts.has_vae:
        raise UserError(f"{OPTION} {facts.path.name}: holds no VAE, which a whole model needs")
    kept = _dtype_of(facts, source)
    model = _load(facts, source, kept, v_parameterization)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix.lower() in (".safetensors", ".ckpt"):
        save_checkpoint(model, target, dtype or kept, dict(metadata) or None, trained)
        return
    if reference is not None:
        model.source = replace(facts, layout="diffusers", path=_with_scheduler(reference))
    save_diffusers(model, target, dtype or kept, safetensors, variant)


def check_version(says_v1: bool, says_v2: bool, version: str | None) -> None:
    """Raise UserError where the flag is not what the file is; `version` None: no model that could be told."""
    if version is not None and ((says_v1 and version != "v1") or (says_v2 and version != "v2")):
        raise UserError(f"--{'v1' if says_v1 else 'v2'}: {OPTION} is a Stable Diffusion {version} model; leave the flag out")


def version_of(names: Mapping[str, TensorInfo]) -> str | None:
    """ "v1" or "v2" by the text encoder of an original-layout file, None where it has none."""
    for version, head in (("v2", keys.CLIP_V2), ("v1", keys.CLIP_V1)):
        if any(name.startswith(head) for name in names):
            return version
    return None


def _dtype_of(facts: ModelFacts, source: str) -> torch.dtype:
    """The dtype that most of the U-Net's tensors have in the file."""
    if facts.layout != "diffusers":
        infos = {name: info for name, info in open_weights(facts.path, OPTION).infos.items() if name.startswith(keys.UNET)}
    else:
        folder = locate(source, OPTION) / "unet"
        path = weights_of_part(folder)
        if path is None:
            raise UserError(f"{OPTION} {folder}: has no weights; get the folder again")
        infos = dict(open_weights(path, OPTION).infos)
    return torch_dtype(Counter(info.dtype for info in infos.values() if info.dtype in FLOATS).most_common(1)[0][0])


def _load(facts: ModelFacts, source: str, kept: torch.dtype, v_parameterization: bool) -> StableDiffusion:
    import torch

    from library.model.load import load
    from library.model.probe import looks_like_epsilon

    velocity = v_parameterization or facts.prediction == "v_prediction"
    unsure = facts.version == "v2" and facts.prediction is None and not velocity
    model = load(source, v2=facts.version == "v2", v_parameterization=velocity, dtype=torch.float32 if unsure else kept)
    if unsure and looks_like_epsilon(model) is False:
        model.prediction = "v_prediction"
        log.info("the model predicts velocity: the folder's scheduler says so")
    return model


def _with_scheduler(reference: str) -> Path:
    folder = locate(reference, "--reference_model", with_weights=False)
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise UserError(f"--reference_model {reference}: has no scheduler/scheduler_config.json; give a Diffusers folder")
    return folder
