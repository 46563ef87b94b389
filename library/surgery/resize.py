"""A LoRA cut to a smaller rank: the best approximation of each module, at a fixed rank or at as few as keep a wanted share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from library.lora.files import ModuleWeights
from library.lora.low_rank import choose_rank, from_svd, on_cpu, svd_of_product
from library.surgery.combine import Combined
from library.surgery.network_file import NetworkFile


@dataclass(frozen=True)
class ResizeSettings:
    """Target ranks, of which with a `method` as much is used as it needs (`library.lora.low_rank.choose_rank`)."""

    rank: int
    conv_rank: int  # of convolutions over more than one pixel
    method: str | None
    parameter: float
    device: str


@dataclass(frozen=True)
class Resized(Combined):
    """A module of the resized LoRA with the singular values of up·down (None where it stays as it is)."""

    wanted: ModuleWeights
    values: Tensor | None

    def note(self) -> str:
        """What users of the well-known suite read: rank, and how much of the singular values' sum and of the norm was kept."""
        if self.values is None:
            return f"rank {self.wanted.rank} stays"
        kept, values = self.made.rank, self.values.double()
        if not values[0] > 0:
            return f"rank {self.wanted.rank} → {kept}, all zero"
        share, norm = float(values[:kept].sum() / values.sum()), float(values[:kept].norm() / values.norm())
        ratio = f", largest/smallest kept {float(values[0] / values[kept - 1]):.1f}" if values[kept - 1] > 0 else ""
        return f"rank {self.wanted.rank} → {kept}, sum kept {share:.1%}, norm kept {norm:.1%}{ratio}"


def resized(network: NetworkFile, settings: ResizeSettings) -> Iterator[Resized]:
    """Each module at its new rank with alpha/rank as it was; one that has no more ranks than are asked for stays bit for bit."""
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
    """The training comment of the new file: what was done, before the old one."""
    ranks = sorted({network.rank(key) for key in network.modules})
    old = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]}–{ranks[-1]}"
    how = f" by {settings.method} {settings.parameter:g}" if settings.method else ""
    conv = f" (convolutions {settings.conv_rank})" if settings.conv_rank != settings.rank else ""
    before = network.metadata.get("ss_training_comment")
    told = f"resized from rank {old} to {'at most ' if how else ''}{settings.rank}{conv}{how}"
    return f"{told}; {before}" if before and before != "None" else told
