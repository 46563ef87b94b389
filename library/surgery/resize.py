"""Reduce a LoRA to a smaller rank: the best approximation of each module, at a fixed rank or at the lowest rank that keeps a wanted share;
or, for a DyLoRA, the first components of each module, with their strength in training."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from library.lora.files import ModuleWeights
from library.lora.low_rank import choose_rank, from_svd, on_cpu, svd_of_product
from library.surgery.combine import Combined
from library.surgery.network_file import NetworkFile


@dataclass(frozen=True)
class ResizeSettings:
    """Target ranks; with a `method` only as many as it needs (`library.lora.low_rank.choose_rank`)."""

    rank: int
    conv_rank: int  # of convolutions over more than one pixel
    method: str | None
    parameter: float
    device: str


@dataclass(frozen=True)
class Resized(Combined):
    """A module of the resized LoRA with the singular values of up·down (None if it does not change)."""

    wanted: ModuleWeights
    values: Tensor | None

    def note(self) -> str:
        """The line that sd-scripts prints: rank, and how much of the singular values' sum and of the norm remains."""
        if self.values is None:
            return f"rank {self.wanted.rank} stays"
        rank, values = self.module.rank, self.values.double()
        if not values[0] > 0:
            return f"rank {self.wanted.rank} → {rank}, all zero"
        share, norm = float(values[:rank].sum() / values.sum()), float(values[:rank].norm() / values.norm())
        ratio = f", largest/smallest kept {float(values[0] / values[rank - 1]):.1f}" if values[rank - 1] > 0 else ""
        return f"rank {self.wanted.rank} → {rank}, sum kept {share:.1%}, norm kept {norm:.1%}{ratio}"


def resized(network: NetworkFile, settings: ResizeSettings) -> Iterator[Resized]:
    """Yield each module at its new rank with the same alpha/rank; a module that already has at most that rank stays bit for bit."""
    for key in network.modules:
        module = network.lora(key)
        limit = settings.conv_rank if module.down.dim() == 4 and module.down.shape[2:] != (1, 1) else settings.rank
        if settings.method is None and limit >= module.rank:
            yield Resized(key, module, module, None)
            continue
        up, down = (part.float().flatten(1).to(settings.device) for part in (module.up, module.down))
        svd = on_cpu(svd_of_product(up, down))
        rank = choose_rank(svd[1], settings.method, settings.parameter, limit)
        if rank >= module.rank:
            yield Resized(key, module, module, svd[1])
        else:
            yield Resized(key, from_svd(svd, rank, module.down.shape, module.alpha / module.rank), module, svd[1])


def describe(network: NetworkFile, settings: ResizeSettings) -> str:
    """The training comment of the new file: what was done, then the old comment."""
    ranks = sorted({network.rank(key) for key in network.modules})
    old = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]}–{ranks[-1]}"
    how = f" by {settings.method} {settings.parameter:g}" if settings.method else ""
    conv = f" (convolutions {settings.conv_rank})" if settings.conv_rank != settings.rank else ""
    before = network.metadata.get("ss_training_comment")
    description = f"resized from rank {old} to {'at most ' if how else ''}{settings.rank}{conv}{how}"
    return f"{description}; {before}" if before and before != "None" else description


def truncated(network: NetworkFile, rank: int, dtype: torch.dtype | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of the LoRA of the first `rank` components, in `dtype` (None: that of the file).

    Training scales the first b of n components by alpha/n · √(n/b) (`networks.dylora`), a LoRA of rank b by alpha/b: so alpha becomes alpha
    · √(b/n). Modules of a lower rank do not change.
    """
    tensors: dict[str, Tensor] = {}
    for key in network.modules:
        module = network.lora(key)
        new_rank = min(rank, module.rank)
        kind = dtype or module.down.dtype
        tensors[f"{key}.lora_down.weight"] = module.down[:new_rank].to(kind).contiguous()
        tensors[f"{key}.lora_up.weight"] = module.up[:, :new_rank].to(kind).contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(module.alpha * math.sqrt(new_rank / module.rank))
    alpha = network.metadata.get("ss_network_alpha", "")
    entries = {"ss_network_dim": str(rank), "ss_network_module": "networks.lora"}
    full = max(network.rank(key) for key in network.modules)
    with contextlib.suppress(ValueError):  # the file may not say it
        entries["ss_network_alpha"] = f"{float(alpha) * math.sqrt(rank / full):g}"
    comment = network.metadata.get("ss_training_comment")
    old = f"; {comment}" if comment and comment != "None" else ""
    return tensors, {**network.metadata, **entries, "ss_training_comment": f"rank {rank} of a DyLoRA of rank {full}{old}"}
