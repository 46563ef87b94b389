"""A LoRA file's tensors by module, by whatever names it has, and what its settings say of their strength."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from library.console import log
from library.containers.weights_file import TensorInfo
from library.errors import UserError
from library.lora.adapter_config import METADATA_KEY, AdapterConfig, adapter_configs
from library.lora.file_names import DORA, EMBEDDING, TensorName, read_name


@dataclass(frozen=True)
class FileLayout:
    """For each module's key the names of its tensors in the file by what they are, and its alpha where settings say it, not a tensor."""

    modules: Mapping[str, Mapping[str, str]]
    alphas: Mapping[str, float]
    strange: tuple[str, ...]  # tensors of no known kind
    foreign: bool  # the names are those of Diffusers or PEFT


def file_layout(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str], path: Path, source: str) -> FileLayout:
    """Raises UserError beginning with `source` for settings that cannot be read; an embedding in the file is left out, with a line."""
    modules: dict[str, dict[str, str]] = {}
    places: dict[str, TensorName] = {}
    strange = []
    for name in infos:
        if name.startswith(EMBEDDING):
            continue
        place = read_name(name)
        if place is None:
            strange.append(name)
            continue
        modules.setdefault(place.key, {})[place.kind] = name
        if place.foreign:
            places[place.key] = place
    _tell_embeddings(infos, source)
    configs = adapter_configs(metadata, path, source) if places and _has_settings(infos, metadata, path) else {}
    alphas = {
        key: configs[place.part].alpha_of(place.path, infos[modules[key]["lora_up.weight"]].shape[1])
        for key, place in places.items()
        if place.part in configs and place.path is not None and "lora_up.weight" in modules[key] and "alpha" not in modules[key]
    }
    _check_dora(configs, modules, places, source)
    return FileLayout(modules, alphas, tuple(strange), bool(places))


def _has_settings(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str], path: Path) -> bool:
    """Whether settings belong to the file: in its metadata, or in the file that PEFT writes beside its own."""
    return METADATA_KEY in metadata or path.stem == "adapter_model" or any(name.startswith("base_model.") for name in infos)


def _check_dora(
    configs: Mapping[str, AdapterConfig], modules: Mapping[str, Mapping[str, str]], places: Mapping[str, TensorName], source: str
) -> None:
    for key, place in places.items():
        config = configs.get(place.part or "")
        if config is not None and config.use_dora and not DORA & modules[key].keys():
            raise UserError(f"{source}: its settings say use_dora, and {key} has no magnitude; the file is incomplete, get it again")


def _tell_embeddings(infos: Mapping[str, TensorInfo], source: str) -> None:
    words = sorted({name.removeprefix(EMBEDDING).partition(".")[0] for name in infos if name.startswith(EMBEDDING)})
    if words:
        log.warning("%s: the embedding in it (%s) is left out; only the LoRA is used", source, ", ".join(words))
