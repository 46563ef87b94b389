"""One product for the down matrices of layers with the same input: query, key and value of a self-attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_TOGETHER = (("attn1.to_q", "attn1.to_k", "attn1.to_v"), ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"))  # Diffusers; CLIP
Down = Callable[[torch.dtype], Tensor]  # returns a layer's down matrix [rank, in] in a dtype


class SharedDown:
    """Multiplies an input by all down matrices when the first layer gets it, and gives the other layers their part for the same input.

    The input is read once instead of three times, in both directions. Only for 16 bits: in float32 the wider product could differ from the
    single ones in its last bits.
    """

    def __init__(self, downs: Sequence[Down]) -> None:
        self._downs = tuple(downs)
        self._met: tuple[Tensor, torch.dtype, bool] | None = None
        self._parts: dict[int, Tensor] = {}

    def hidden(self, place: int, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return x·downᵀ [B, …, rank] of layer number `place`, x [B, …, in]."""
        met, graph = self._met, torch.is_grad_enabled()
        if met is None or met[0] is not x or met[1:] != (dtype, graph) or place not in self._parts:
            downs = [down(dtype) for down in self._downs]
            together = F.linear(x.to(dtype), torch.cat(downs))
            self._parts = dict(enumerate(torch.split(together, [len(down) for down in downs], dim=-1)))
            self._met = (x, dtype, graph)
        part = self._parts.pop(place)
        if not self._parts:
            self._met = None
        return part


def siblings(paths: Mapping[str, str]) -> list[list[str]]:
    """Return groups of keys whose layers have the same input, from the path of each key in the model."""
    at = {path: key for key, path in paths.items()}
    groups = []
    for names in _TOGETHER:
        for path in [path for path in at if path.endswith("." + names[0])]:
            stem = path.removesuffix(names[0])
            if all(stem + name in at for name in names):
                groups.append([at[stem + name] for name in names])
    return groups
