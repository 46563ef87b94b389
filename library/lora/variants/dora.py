"""DoRA: the sum of a weight and its LoRA, with separately trained magnitudes (Liu et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor


def dora_weight(total: Tensor, magnitude: Tensor) -> Tensor:
    """W′ = m·(W + ΔW)/‖W + ΔW‖ (Liu et al. 2024, eq. 5); `total` is W + ΔW [out, in(, kh, kw)], `magnitude` comes from `shaped`."""
    return total * (magnitude / norms(total, by_output(magnitude, total.shape)))


def norms(weight: Tensor, on_output: bool) -> Tensor:
    """Return the norm of each row (or each input's column) of a weight [out, in(, kh, kw)], with the weight's number of dimensions."""
    axes = [axis for axis in range(weight.dim()) if axis != (0 if on_output else 1)]
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
    return lengths.clamp(min=torch.finfo(weight.dtype).eps)


def by_output(magnitude: Tensor, shape: torch.Size) -> bool:
    """Whether the magnitudes are those of the weight's rows: [out, 1 …] (current LyCORIS, PEFT), not [1, in …] (LyCORIS of 2024)."""
    return tuple(magnitude.shape[:1]) == tuple(shape[:1])


def rows(magnitude: Tensor, dimensions: int) -> Tensor:
    """Reshape PEFT's magnitudes, [out] or [1, out, 1, 1], to row magnitudes [out, 1 …] of a weight with this number of dimensions."""
    return magnitude.reshape(-1, *[1] * (dimensions - 1))


def shaped(magnitude: Tensor, shape: torch.Size) -> Tensor | None:
    """Reshape magnitudes [out, 1 …] or [1, in, 1 …] to the dimensions of a weight of `shape`; None if they are those of another weight."""
    axis = 0 if by_output(magnitude, shape) else 1
    if magnitude.numel() != shape[axis]:
        return None
    return magnitude.reshape([-1 if place == axis else 1 for place in range(len(shape))])
