"""One interface for network modules of any origin; everything optional in their contract is handled here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from library.files import atomic_write
from library.lora.files import hash_anew
from library.lora.layers import TextEncoders

TEXT = "textencoder"  # prefix of its group names


class AdaptedNetwork:
    """Wraps `module`, the network that `--network_module` created."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def apply(self, text_encoder: TextEncoders, unet: nn.Module, apply_text_encoder: bool, apply_unet: bool) -> None:
        apply_to: Any = self.module.apply_to
        apply_to(text_encoder, unet, apply_text_encoder, apply_unet)

    def call(self, name: str, *args: object) -> Any:
        """Call a method that a network may lack."""
        method = getattr(self.module, name, None)
        return None if method is None else method(*args)

    def save(self, path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str] | None) -> None:
        """Write the network completely or not at all, whether its own writer guarantees this (`saves_whole`) or not."""
        save_weights: Any = self.module.save_weights
        entries = None if metadata is None else dict(metadata)
        if getattr(self.module, "saves_whole", False):
            save_weights(str(path), dtype, entries)
            return
        with atomic_write(path, keep_ending=True) as fresh:
            save_weights(str(fresh), dtype, entries)
            hash_anew(fresh)

    def of_text_encoder(self, groups: Sequence[Mapping[str, Any]]) -> list[nn.Parameter] | None:
        """Return the parameters in the optimizer's `groups` that belong to the text encoder, by group name or by the lists that kohya's
        networks and LyCORIS keep; None if neither shows it."""
        named = [group for group in groups if str(group["name"]).startswith(TEXT)]
        modules = getattr(self.module, "text_encoder_loras", None)
        if named:
            return [parameter for group in named for parameter in group["params"]]
        if modules is None:
            return None
        ids = {id(parameter) for module in modules for parameter in module.parameters()}
        return [parameter for group in groups for parameter in group["params"] if id(parameter) in ids]

    def optimizer_groups(self, text_encoder_lr: float | None, unet_lr: float | None, learning_rate: float) -> list[dict[str, Any]]:
        """Return the network's groups, each with a list as `params` and a `name`; leaves out groups with rate 0, which would only cost
        memory."""
        prepare: Any = self.module.prepare_optimizer_params
        prepared = prepare(text_encoder_lr, unet_lr, learning_rate)
        groups = prepared[0] if isinstance(prepared, tuple) else prepared
        named = [{**group, "params": list(group["params"])} for group in groups]
        for place, group in enumerate(named):
            group.setdefault("name", f"group{place}")
        return [group for group in named if group["params"] and group.get("lr", learning_rate) != 0]
