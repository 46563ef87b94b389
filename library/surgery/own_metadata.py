"""The metadata of a file that a tool makes: what is said of its sources, under its own name, without what is true of them alone."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from library.containers.weights_file import HASH_KEY, SPEC_KEY
from library.lora.adapter_config import METADATA_KEY
from library.lora.files import ModuleWeights

SPEC = "modelspec."
_FOREIGN = {METADATA_KEY, "format", HASH_KEY}  # of Diffusers' names and settings, which the new file does not have; a hash is made anew
# (version, predicts velocity) -> how the Model Metadata Standard calls it
_ARCHITECTURES = {
    ("v1", False): "stable-diffusion-v1",
    ("v1", True): "stable-diffusion-v1",
    ("v2", False): "stable-diffusion-v2-512",
    ("v2", True): "stable-diffusion-v2-768-v",
}
_BASES = re.compile(r"sd_(v[12])\w*?(_v)?")  # sd_v1, sd_v2, sd_v2_v, …
_WIDTHS = {768: "v1", 1024: "v2"}  # of the text that the U-Net looks at, and of the text encoder's layers


def own_metadata(metadata: Mapping[str, str], name: str, version: str | None = None) -> dict[str, str]:
    """`metadata` for the LoRA called `name`: output name and title are its own, and `modelspec.*` is complete.

    `version` ("v1" or "v2") is what the tensors say of the base model; None leaves it to the metadata. Where neither tells,
    `modelspec.*` is left out, which has to name an architecture.
    """
    kept = {key: value for key, value in metadata.items() if key not in _FOREIGN and not key.startswith("sshs_")}
    kept["ss_output_name"] = name
    spec = _spec(kept, name, version)
    plain = {key: value for key, value in kept.items() if not key.startswith(SPEC)}
    return {**plain, **spec}


def renamed(metadata: Mapping[str, str], name: str) -> dict[str, str]:
    """`metadata` of a model that goes on under another `name`: what there is of output name, title and date, is its own."""
    own = {"ss_output_name": name, f"{SPEC}title": name, f"{SPEC}date": _now()}
    return {**metadata, **{key: value for key, value in own.items() if key in metadata}}


def common(sources: list[Mapping[str, str]]) -> dict[str, str]:
    """What all sources say alike, of their training and under `modelspec.`."""
    first, *others = sources
    return {
        key: value for key, value in first.items() if key.startswith(("ss_", SPEC)) and all(other.get(key) == value for other in others)
    }


def version_of(modules: Mapping[str, ModuleWeights]) -> str | None:
    """ "v1" or "v2" by the widths of the modules that see text; None where there are none, or of other widths."""
    widths = {module.down.shape[1] for key, module in modules.items() if key.endswith(("attn2_to_k", "_self_attn_q_proj"))}
    return _WIDTHS.get(widths.pop()) if len(widths) == 1 else None


def _spec(metadata: Mapping[str, str], name: str, version: str | None) -> dict[str, str]:
    said = {key: value for key, value in metadata.items() if key.startswith(SPEC)}
    velocity = said.get(f"{SPEC}prediction_type") == "v"
    if "ss_v2" in metadata:
        version = "v2" if metadata["ss_v2"] == "True" else "v1"
    if base := _BASES.fullmatch(metadata.get("ss_base_model_version", "")):
        version, velocity = base[1], velocity or bool(base[2])
    if f"{SPEC}architecture" in said:
        velocity = velocity or said[f"{SPEC}architecture"].startswith("stable-diffusion-v2-768-v")
    elif version is None:
        return {}
    side = "768" if version == "v2" and velocity else "512"
    size = re.fullmatch(r"\(?(\d+), ?(\d+)\)?", metadata.get("ss_resolution", ""))
    made = {
        SPEC_KEY: "1.0.0",
        f"{SPEC}architecture": f"{_ARCHITECTURES[version or 'v1', velocity]}/lora",
        f"{SPEC}implementation": "diffusers",
        f"{SPEC}resolution": f"{size[1]}x{size[2]}" if size else f"{side}x{side}",
        f"{SPEC}prediction_type": "v" if velocity else "epsilon",
    }
    return {**made, **said, f"{SPEC}title": name, f"{SPEC}date": _now()}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
