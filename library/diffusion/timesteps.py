"""Which timestep an image is trained at: uniform, logit-normal or by a table of weights, at random or spread evenly over an update."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from library.seeds import fold

_NUMBERS = 1 << 63  # seeds are below this


@dataclass(frozen=True)
class TimestepDraws:
    """Draws from `among`; `shares` are the cumulative probabilities of the timesteps, None if they are uniform.

    With `stratified`, the draws of an update fall into separate ranges of equal probability, one range per image (McKay, Beckman & Conover
    1979, in one dimension): each single draw keeps its distribution, and together they cover all of it.
    """

    among: range
    shares: tuple[float, ...] | None = None
    stratified: bool = False

    def numbers(self, seeds: Tensor | Sequence[int], strata: Tensor | None = None) -> list[int]:
        """Return the timestep of each image, by its seed and, with `stratified`, its row of `strata` int64 [B,2] (range, number of ranges);
        without rows it is drawn from all timesteps."""
        if strata is None or not self.stratified:
            if self.shares is None:  # `fold` is uniform over 2⁶³ values, so the remainder's bias is under 10⁻¹⁵
                return [self.among[fold(seed, "timestep") % len(self.among)] for seed in _listed(seeds)]
            return [self.at(_uniform(seed)) for seed in _listed(seeds)]
        rows = strata.tolist()
        return [self.at((place + _uniform(seed)) / count) for seed, (place, count) in zip(_listed(seeds), rows, strict=True)]

    def at(self, share: float) -> int:
        """Return the lowest timestep whose cumulative probability exceeds `share` (0 ≤ share < 1)."""
        last = len(self.among) - 1
        if self.shares is None:
            return self.among[min(last, int(share * len(self.among)))]
        return self.among[min(last, bisect.bisect_right(self.shares, share))]


def logit_normal(among: range, mean: float, std: float, stratified: bool = False) -> TimestepDraws:
    """logit(t) ~ N(mean, std²) for t in 0 … 1 along `among` (Esser et al. 2024, eq. 19): a `mean` over 0 prefers noise."""
    normal, count = NormalDist(mean, std), len(among)
    shares = (normal.cdf(_logit(number / count)) for number in range(1, count))
    return TimestepDraws(among, (*shares, 1.0), stratified)


def by_weights(among: range, weights: Sequence[float], stratified: bool = False) -> TimestepDraws:
    """Draw each timestep in proportion to its weight. Raises ValueError if all weights are 0."""
    sums = list(itertools.accumulate(weights))
    if not sums[-1] > 0:
        raise ValueError("all timesteps that are trained have the weight 0")
    return TimestepDraws(among, tuple(one / sums[-1] for one in sums), stratified)


def drawn_timesteps(draws: TimestepDraws, seeds: Tensor | Sequence[int], strata: Tensor | None, device: torch.device) -> Tensor:
    """Return `draws.numbers` as int64 [B] on `device`, sent without waiting for its pending work."""
    numbers = draws.numbers(seeds, strata)
    return torch.tensor(numbers, dtype=torch.int64, pin_memory=device.type == "cuda").to(device, non_blocking=True)


def _logit(share: float) -> float:
    return math.log(share / (1.0 - share))


def _uniform(seed: int) -> float:
    """Uniform in 0 ≤ u < 1, from 53 bits of the draw."""
    return (fold(seed, "timestep") >> 10) / (_NUMBERS >> 10)


def _listed(seeds: Tensor | Sequence[int]) -> list[int]:
    return seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
