"""Reads the figures that a run's memory depends on: from its options, its images and its loaded model."""

from __future__ import annotations

import math
from typing import Any

import torch

from library.containers.dtypes import WIDTHS
from library.containers.weights_file import SafetensorsFile, open_weights
from library.errors import UserError
from library.method import Method, RemembersBase
from library.model.bundle import StableDiffusion
from library.model.files import convert
from library.model.files.facts import OPTION
from library.model.files.locate import part_bytes
from library.options.groups.scripts import TrainingScript
from library.training.memory.estimate import MemoryCase, TextShape, UNetShape
from library.training.optim.optimizer_table import chosen_name, state_bytes
from library.training.planning.inputs import Inputs

_PARTS = ("text_encoder", "unet", "vae")  # in the order of loading


def memory_case(options: TrainingScript, inputs: Inputs, model: StableDiffusion, method: Method, device: torch.device) -> MemoryCase:
    """Everything that the memory of this run depends on; `method` is attached to `model`."""
    training = options.training
    groups = method.param_groups()
    trained = _trained(model, groups)
    half = training.mixed_precision != "no"
    size, batch = inputs.source.largest()
    config = model.unet.config
    frozen = [p for part in (model.unet, *model.text_encoders) for p in part.parameters() if not p.requires_grad]
    return MemoryCase(
        device="cuda" if device.type == "cuda" else "cpu",
        size=size,
        batch=batch,
        unet=UNetShape(
            tuple(config.block_out_channels), config.layers_per_block, tuple("CrossAttn" in kind for kind in config.down_block_types)
        ),
        texts=tuple(
            TextShape(text.config.hidden_size, text.config.num_hidden_layers, 75 * model.tokenizer.windows + 2)
            for text in model.text_encoders
        ),
        counts=_counts(model) | {"network": trained.get("network", 0)},
        trained=trained,
        frozen_bytes=_bytes_each(frozen) if frozen else 4,
        trained_bytes=groups[0]["params"][0].element_size(),
        vae_bytes=torch.finfo(model.vae.dtype).bits // 8,
        compute_bytes=2 if half else 4,
        optimizer_bytes=state_bytes(chosen_name(options.optimizer)),
        file_bytes=_file_bytes(model) if device.type == "cpu" else {},
        masks_images=model.inpaints,
        latents_cached=options.data.cache_latents or inputs.source.are_latents,
        checkpointing=training.gradient_checkpointing,
        linears_trained=any(str(group.get("name", "")).startswith(("unet", "group")) for group in groups),
        text_trained=method.trains_text_encoder(0),
        vae_tiling=training.vae_tiling,
        unet_autocast=model.unet_autocast,
        **_of_base(inputs, model, method),
    )


def _of_base(inputs: Inputs, model: StableDiffusion, method: Method) -> dict[str, Any]:
    """The memory fields of the base model's predictions; empty where the run does not use them."""
    if inputs.data.prior_from_base is None or not isinstance(method, RemembersBase):
        return {}
    own = {id(p) for part in (model.unet, *model.text_encoders) for p in part.parameters()}
    with method.as_before() as base:
        copied = [p for part in (base.unet, *base.text_encoders) for p in part.parameters() if id(p) not in own]
    return {
        "asks_base": True,
        "copied": sum(p.numel() for p in copied),
        "copied_bytes": copied[0].element_size() if copied else 4,
    }


def _counts(model: StableDiffusion) -> dict[str, int]:
    """The number of values of each part."""
    parts = {"text_encoder": model.text_encoders, "unet": (model.unet,), "vae": (model.vae,)}
    return {part: sum(p.numel() for module in modules for p in module.parameters()) for part, modules in parts.items()}


def _trained(model: StableDiffusion, groups: list[dict[str, Any]]) -> dict[str, int]:
    """The number of trained values by block of the U-Net, text encoder or network."""
    owners = {id(p): "text_encoder" for text_encoder in model.text_encoders for p in text_encoder.parameters()}
    owners |= {id(p): _block(name, len(model.unet.config.block_out_channels)) for name, p in model.unet.named_parameters()}
    counts: dict[str, int] = {}
    for group in groups:
        for parameter in group["params"]:
            owner = owners.get(id(parameter), "network")
            counts[owner] = counts.get(owner, 0) + parameter.numel()
    return counts


def _block(name: str, levels: int) -> str:
    """The block that a U-Net parameter belongs to; parameters outside of blocks count with the first or the last block."""
    first, _, rest = name.partition(".")
    if first in ("down_blocks", "up_blocks"):
        return f"{first}.{rest.partition('.')[0]}"
    return first if first == "mid_block" else f"up_blocks.{levels - 1}" if first in ("conv_norm_out", "conv_out") else "down_blocks.0"


def _bytes_each(parameters: list[torch.Tensor]) -> float:
    return sum(p.numel() * p.element_size() for p in parameters) / sum(p.numel() for p in parameters)


def _file_bytes(model: StableDiffusion) -> dict[str, int]:
    """Bytes of each part in the file it was loaded from, where they are mapped while it is read."""
    facts = model.source
    if facts is None:
        return dict.fromkeys(_PARTS, 0)
    try:
        if facts.layout == "diffusers":
            return {part: part_bytes(facts.path / part) for part in _PARTS}
        file = open_weights(facts.path, OPTION)
    except (OSError, UserError):  # the file is gone since it was loaded; the run no longer needs it
        return dict.fromkeys(_PARTS, 0)
    sizes = dict.fromkeys(_PARTS, 0)
    if isinstance(file, SafetensorsFile):
        places = convert.places(file.infos)
        for name, place in places.items():
            sizes[place.part] = sizes.get(place.part, 0) + math.prod(file.infos[name].shape) * WIDTHS[file.infos[name].dtype]
    return sizes
