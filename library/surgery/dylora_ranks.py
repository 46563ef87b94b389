"""A DyLoRA cut to a rank: the first components of each module, as strong as they were when they were trained."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor

from library.surgery.network_file import NetworkFile


def truncated(network: NetworkFile, rank: int, dtype: torch.dtype | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the LoRA of the first `rank` components, in `dtype` (None: that of the file).

    Training scales the first b of n components by alpha/n · √(n/b) (`networks.dylora`), a LoRA of rank b by alpha/b: so alpha
    becomes alpha · √(b/n). Modules of a lower rank stay whole.
    """
    tensors: dict[str, Tensor] = {}
    for key in network.modules:
        module = network.lora(key)
        kept = min(rank, module.rank)
        kind = dtype or module.down.dtype
        tensors[f"{key}.lora_down.weight"] = module.down[:kept].to(kind).contiguous()
        tensors[f"{key}.lora_up.weight"] = module.up[:, :kept].to(kind).contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(module.alpha * math.sqrt(kept / module.rank))
    alpha = network.metadata.get("ss_network_alpha", "")
    told = {"ss_network_dim": str(rank), "ss_network_module": "networks.lora"}
    full = max(network.rank(key) for key in network.modules)
    with contextlib.suppress(ValueError):  # the file may say none
        told["ss_network_alpha"] = f"{float(alpha) * math.sqrt(rank / full):g}"
    comment = network.metadata.get("ss_training_comment")
    old = f"; {comment}" if comment and comment != "None" else ""
    return tensors, {**network.metadata, **told, "ss_training_comment": f"rank {rank} of a DyLoRA of rank {full}{old}"}
