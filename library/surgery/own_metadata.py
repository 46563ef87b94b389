"""The metadata of a file that a tool writes: that of its sources, with a new name, without entries that apply only to the sources."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from library.containers.weights_file import HASH_KEY, SPEC_KEY
from library.lora.adapter_config import METADATA_KEY
from library.lora.files import ModuleWeights
from library.model.family import FAMILIES, V1, V2, ModelFamily, family_of_base_version, family_of_flag

SPEC = "modelspec."
_FOREIGN = {METADATA_KEY, "format", HASH_KEY}  # names and settings of Diffusers, which the new file does not have; a hash is computed again


def own_metadata(metadata: Mapping[str, str], name: str, family: ModelFamily | None = None) -> dict[str, str]:
    """Return `metadata` for the LoRA `name`, with that output name and title, and complete `modelspec.*` keys.

    `family` is the base model by the tensors; None takes it from the metadata. Without either, `modelspec.*` is left out, since it must
    name an architecture.
    """
    entries = {key: value for key, value in metadata.items() if key not in _FOREIGN and not key.startswith("sshs_")}
    entries["ss_output_name"] = name
    spec = _spec(entries, name, family)
    plain = {key: value for key, value in entries.items() if not key.startswith(SPEC)}
    return {**plain, **spec}


def renamed(metadata: Mapping[str, str], name: str) -> dict[str, str]:
    """Return `metadata` of a model under another `name`: updates output name, title and date where they exist."""
    own = {"ss_output_name": name, f"{SPEC}title": name, f"{SPEC}date": _now()}
    return {**metadata, **{key: value for key, value in own.items() if key in metadata}}


def common(sources: list[Mapping[str, str]]) -> dict[str, str]:
    """The training and `modelspec.` entries that all sources share."""
    first, *others = sources
    return {
        key: value for key, value in first.items() if key.startswith(("ss_", SPEC)) and all(other.get(key) == value for other in others)
    }


def family_of_modules(modules: Mapping[str, ModuleWeights]) -> ModelFamily | None:
    """The family by the widths of the modules that read text; None without such modules, or for other widths."""
    widths = {module.down.shape[1] for key, module in modules.items() if key.endswith(("attn2_to_k", "_self_attn_q_proj"))}
    return next((family for family in FAMILIES.values() if widths == {family.unet.context_width}), None)


def _spec(metadata: Mapping[str, str], name: str, family: ModelFamily | None) -> dict[str, str]:
    said = {key: value for key, value in metadata.items() if key.startswith(SPEC)}
    base, architecture = metadata.get("ss_base_model_version", ""), said.get(f"{SPEC}architecture", "").partition("/")[0]
    if "ss_v2" in metadata:
        family = family_of_flag(metadata["ss_v2"] == "True")
    family = family_of_base_version(base) or family
    if family is None and not architecture:
        return {}
    family = family or V1
    velocity = said.get(f"{SPEC}prediction_type") == "v" or base.endswith("_v")
    velocity = velocity or (architecture == family.velocity_architecture != family.architecture)
    prediction = "v_prediction" if velocity else "epsilon"
    side = "768" if family is V2 and velocity else "512"
    size = re.fullmatch(r"\(?(\d+), ?(\d+)\)?", metadata.get("ss_resolution", ""))
    generated = {
        SPEC_KEY: "1.0.0",
        f"{SPEC}architecture": f"{family.architecture_of(prediction)}/lora",
        f"{SPEC}implementation": "diffusers",
        f"{SPEC}resolution": f"{size[1]}x{size[2]}" if size else f"{side}x{side}",
        f"{SPEC}prediction_type": "v" if velocity else "epsilon",
    }
    return {**generated, **said, f"{SPEC}title": name, f"{SPEC}date": _now()}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
