"""Distance of a predicted value from its target: squared, absolute, or squared near 0 and absolute far from it (pseudo-Huber)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from library.diffusion.schedule import NoiseSchedule

Kind = Literal["l2", "l1", "huber", "smooth_l1"]
ThresholdSchedule = Literal["constant", "exponential", "snr"]


@dataclass(frozen=True)
class PointwiseSettings:
    """The distance, and for the two Huber kinds how the threshold δ changes over the timesteps; `scale` multiplies all δ.

    Raises ValueError if δ is not over 0, or would grow under a falling schedule.
    """

    kind: Kind = "l2"
    schedule: ThresholdSchedule = "snr"
    c: float = 0.1  # δ at the noisiest timestep
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.c <= 0 or (self.c > 1 and self.schedule != "constant"):
            raise ValueError(f"c is over 0, and at most 1 unless the threshold is constant, not {self.c:g}")
        if self.scale <= 0:
            raise ValueError(f"scale is over 0, not {self.scale:g}")


class Pointwise:
    """`pointwise(predicted, target, timesteps)` -> distance of every value, [B,4,h,w]; d = predicted − target.

    * l2: d². l1: |d|.
    * huber: 2·δ·(√(d² + δ²) − δ), twice the pseudo-Huber loss δ²·(√(1 + d²/δ²) − 1) (Charbonnier et al. 1997; Khrapov et al. 2024,
      "Improving Diffusion Models's Data-Corruption Resistance using Scheduled Pseudo-Huber Loss"): d² for |d| ≪ δ, 2·δ·|d| for |d| ≫ δ.
    * smooth_l1: 2·(√(d² + δ²) − δ), the same divided by δ: d²/δ near 0, 2·|d| far from it.

    δ at timestep t: constant c; exponential exp(t·ln(c)/T), from 1 down to c (Khrapov et al. 2024); snr (1−c)/(1+σ)² + c with σ =
    √((1−ā)/ā), from nearly 1 down to c (as in sd-scripts). Each times `scale`.
    """

    def __init__(self, schedule: NoiseSchedule, settings: PointwiseSettings) -> None:
        self.kind = settings.kind
        self.thresholds = _thresholds(schedule, settings) if settings.kind in ("huber", "smooth_l1") else None

    def __call__(self, predicted: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """`predicted` and `target` [B,4,h,w] of one float type; `timesteps` int64 [B] on the schedule's device."""
        difference = predicted - target
        if self.kind == "l2":
            return difference.square()
        if self.kind == "l1":
            return difference.abs()
        assert self.thresholds is not None
        delta = self.thresholds[timesteps].view(-1, 1, 1, 1).to(difference.dtype)
        # √(d²+δ²) − δ = d²/(√(d²+δ²) + δ): the left side loses precision for small d
        root = (difference.square() + delta.square()).sqrt()
        distance = 2 * difference.square() / (root + delta)
        return distance * delta if self.kind == "huber" else distance


def _thresholds(schedule: NoiseSchedule, settings: PointwiseSettings) -> Tensor:
    """Return δ of every timestep, float32 [T]; computed in float64."""
    alphas = schedule.alphas_cumprod.to("cpu", torch.float64)
    if settings.schedule == "constant":
        delta = torch.full_like(alphas, settings.c)
    elif settings.schedule == "exponential":
        delta = torch.exp(torch.arange(len(alphas), dtype=torch.float64) * math.log(settings.c) / len(alphas))
    else:
        shrink = alphas / (alphas.sqrt() + (1 - alphas).sqrt()).square()  # 1/(1+σ)², also at ā = 0
        delta = (1 - settings.c) * shrink + settings.c
    return (delta * settings.scale).to(schedule.alphas_cumprod.device, torch.float32)
