"""Combine several LoRAs: concatenate their ranks, average their weights, or reduce their sum to a new rank by SVD."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from library.errors import UserError, coded
from library.lora.block_ratios import BlockRatios, block_of
from library.lora.files import ModuleWeights, with_inputs
from library.lora.layers import delta_weight
from library.lora.low_rank import flat, from_svd, module_norm, on_cpu, relative_error, svd_of_product
from library.seeds import fold
from library.surgery.network_file import NetworkFile
from library.surgery.own_metadata import common

Sources = Sequence[tuple[NetworkFile, float]]  # each with its ratio


@dataclass(frozen=True)
class Combined:
    """A module of a new LoRA and its target: another module, or a full ΔW [out, in(, kh, kw)]."""

    key: str
    module: ModuleWeights
    wanted: ModuleWeights | Tensor

    def compared(self, saved: ModuleWeights) -> tuple[float, float]:
        """Return (‖ΔW saved − ΔW wanted‖ / ‖ΔW wanted‖, ‖ΔW wanted‖) of the module as `saved`, rounding included."""
        if isinstance(self.wanted, ModuleWeights):
            return relative_error(saved, self.wanted), module_norm(self.wanted)
        norm = float(torch.linalg.vector_norm(self.wanted))
        if not (saved.up.isfinite().all() and saved.down.isfinite().all()):
            return float("inf"), norm
        lost = float(torch.linalg.vector_norm(delta_weight(saved.down, saved.up, saved.alpha / saved.rank) - self.wanted))
        return (lost / norm if norm else float("inf") if lost else 0.0), norm


def module_keys(sources: Sources) -> list[str]:
    """The modules of all sources, in order of first occurrence."""
    return list(dict.fromkeys(key for network, _ in sources for key in network.modules))


def concatenated(sources: Sources, precision: torch.dtype, shuffle: bool) -> Iterator[Combined]:
    """Σ ratio · ΔW exactly, with the sum of the ranks; `shuffle` puts the rank's components in random order with the same ΔW."""
    for key in module_keys(sources):
        wanted = _sum(sources, key, precision)
        merged = ModuleWeights(down=wanted.down, up=wanted.up, alpha=wanted.alpha)
        yield Combined(key, _shuffled(key, merged) if shuffle else merged, wanted)


def averaged(sources: Sources, precision: torch.dtype, shuffle: bool) -> Iterator[Combined]:
    """up and down are each the sum of ratio · theirs, as sd-scripts merges LoRAs of the same rank; alpha is that of the first.

    This equals the weighted sum of the ΔW only for similar LoRAs: the receipt shows how far it is from it.
    """
    for key in module_keys(sources):
        modules = _of_all(sources, key)
        first = modules[0][0]
        if len({module.rank for module, _ in modules}) > 1:
            ranks = " and ".join(str(module.rank) for module, _ in modules)
            raise UserError(
                coded("TOOL-005", f"--models: {key} has ranks {ranks}; add --concat to keep all of them, or use networks/svd_merge_lora.py")
            )
        if any(module.alpha * first.alpha <= 0 for module, _ in modules):
            alphas = " and ".join(f"{module.alpha:g}" for module, _ in modules)
            raise UserError(
                coded(
                    "TOOL-005", f"--models: {key} has alpha {alphas}, which has no average; add --concat, or use networks/svd_merge_lora.py"
                )
            )
        down, up = torch.zeros(first.down.shape, dtype=precision), torch.zeros(first.up.shape, dtype=precision)
        for module, ratio in modules:
            factor = math.sqrt(module.alpha / first.alpha) * ratio
            up += module.up.to(precision) * abs(factor)  # the sign of a negative ratio only once
            down += module.down.to(precision) * factor
        merged = ModuleWeights(down=down, up=up, alpha=first.alpha)
        yield Combined(key, _shuffled(key, merged) if shuffle else merged, _sum(sources, key, precision))


def cut(
    sources: Sources, precision: torch.dtype, rank: int, conv_rank: int, device: str | None, blocks: Sequence[BlockRatios] = ()
) -> Iterator[Combined]:
    """The best approximation of Σ ratio · ΔW of rank `rank`, and `conv_rank` for convolutions over more than one pixel.

    With `blocks`, one mapping per source, each ratio is multiplied by that of the module's block.
    """
    for key in module_keys(sources):
        name = block_of(key) if blocks else None
        factors = [of_source.get(name, 1.0) if name else 1.0 for of_source in blocks] or [1.0] * len(sources)
        wanted = _sum([(network, ratio * factor) for (network, ratio), factor in zip(sources, factors, strict=True)], key, precision)
        up, down = (tensor.to(device or "cpu") for tensor in flat(wanted))
        svd = on_cpu(svd_of_product(up, down))
        new_rank = min(conv_rank if wanted.down.dim() == 4 and wanted.down.shape[2:] != (1, 1) else rank, len(svd[1]))
        yield Combined(key, from_svd(svd, new_rank, wanted.down.shape), wanted)


def _of_all(sources: Sources, key: str) -> list[tuple[ModuleWeights, float]]:
    """Return the module of each source that has it, with the ratio; raises UserError if their sizes differ.

    If one of them is for an inpainting model, the first convolutions of the others are extended to its inputs, with 0 for the additional
    ones.
    """
    modules = [(network.lora(key), ratio) for network, ratio in sources if key in network.modules]
    inputs = max(module.down.shape[1] for module, _ in modules)
    fitted = [(replace(module, down=with_inputs(module.down, inputs)), ratio) for module, ratio in modules]
    if len({(module.down.shape[1:], module.up.shape[0]) for module, _ in fitted}) > 1:
        raise UserError(
            coded("TOOL-005", f"--models: {key} has another size in one file than in another; they are made for different base models")
        )
    return fitted


def _sum(sources: Sources, key: str, precision: torch.dtype) -> ModuleWeights:
    """Σ ratio · ΔW as one module with alpha = rank: all downs and all ups concatenated, each with √|ratio · alpha / rank|."""
    ups: list[Tensor] = []
    downs: list[Tensor] = []
    for module, ratio in _of_all(sources, key):
        factor = ratio * module.alpha / module.rank
        root = math.sqrt(abs(factor))
        downs.append(module.down.to(precision).float() * root)
        ups.append(module.up.to(precision).float() * math.copysign(root, factor))
    return ModuleWeights(down=torch.cat(downs), up=torch.cat(ups, dim=1), alpha=float(sum(len(down) for down in downs)))


def _shuffled(key: str, module: ModuleWeights) -> ModuleWeights:
    order = torch.randperm(module.rank, generator=torch.Generator().manual_seed(fold(0, "shuffle", key)))
    return ModuleWeights(down=module.down[order], up=module.up[:, order], alpha=module.alpha)


def merged_metadata(sources: Sources) -> dict[str, str]:
    """The metadata that all sources share, and a comment that says what was merged."""
    shared = common([network.metadata for network, _ in sources])
    ratios = ", ".join(f"{network.file.path.stem}: {ratio:g}" for network, ratio in sources)
    return {**shared, "ss_training_comment": f"merged from {ratios}"}


def sized_metadata(metadata: Mapping[str, str], modules: Mapping[str, ModuleWeights]) -> dict[str, str]:
    """The metadata with the rank and alpha of `modules`, or "Dynamic" if they differ between modules."""
    plain = {key: module for key, module in modules.items() if module.down.shape[2:] in ((), (1, 1))} or modules
    ranks, alphas = {module.rank for module in plain.values()}, {module.alpha for module in plain.values()}
    dim = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
    alpha = f"{alphas.pop():g}" if len(alphas) == 1 else "Dynamic"
    return {**metadata, "ss_network_module": "networks.lora", "ss_network_dim": dim, "ss_network_alpha": alpha}
