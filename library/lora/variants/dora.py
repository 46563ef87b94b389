"""DoRA: a LoRA's sum with its weight, at sizes that are trained by themselves (Liu et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor


def dora_weight(total: Tensor, magnitude: Tensor) -> Tensor:
    """W′ = m·(W + ΔW)/‖W + ΔW‖ (Liu et al. 2024, eq. 5); `total` is W + ΔW [out, in(, kh, kw)], `magnitude` as `shaped` gives it."""
    return total * (magnitude / norms(total, by_output(magnitude, total.shape)))


def norms(weight: Tensor, on_output: bool) -> Tensor:
    """The norm of each row of a weight [out, in(, kh, kw)] (or of each input's column), kept in the weight's dimensions."""
    axes = [axis for axis in range(weight.dim()) if axis != (0 if on_output else 1)]
    found: Tensor = torch.linalg.vector_norm(weight, dim=axes, keepdim=True)
    return found.clamp(min=torch.finfo(weight.dtype).eps)


def by_output(magnitude: Tensor, shape: torch.Size) -> bool:
    """Whether the magnitudes are those of the weight's rows: [out, 1 …] (LyCORIS today, PEFT), not [1, in …] (LyCORIS of 2024)."""
    return tuple(magnitude.shape[:1]) == tuple(shape[:1])


def rows(magnitude: Tensor, dimensions: int) -> Tensor:
    """PEFT's magnitudes, [out] or [1, out, 1, 1], as those of the rows of a weight of so many dimensions: [out, 1 …]."""
    return magnitude.reshape(-1, *[1] * (dimensions - 1))


def shaped(magnitude: Tensor, shape: torch.Size) -> Tensor | None:
    """Magnitudes [out, 1 …] or [1, in, 1 …] in the dimensions of a weight of `shape`; None where they are those of another weight."""
    axis = 0 if by_output(magnitude, shape) else 1
    if magnitude.numel() != shape[axis]:
        return None
    return magnitude.reshape([-1 if place == axis else 1 for place in range(len(shape))])
