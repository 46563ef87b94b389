"""Parse --timestep_bias for its --timestep_sampling, without torch."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from library.parsing.whole import whole_number
from library.words import quoted

MOST_SPREAD = 10.0  # of logit_normal: beyond it, nearly all timesteps are at the two ends


@dataclass(frozen=True)
class LogitNormal:
    """A normal distribution of logit(t), where t is the share of timesteps below."""

    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Table:
    """Weights at timesteps, in order, interpolated linearly and constant beyond both ends."""

    points: tuple[tuple[int, float], ...]

    def weights(self, among: range) -> list[float]:
        """Return the weight of each of these timesteps."""
        places = [place for place, _ in self.points]
        weights = []
        for timestep in among:
            after = bisect.bisect_right(places, timestep)
            (left, low), (right, high) = self.points[max(0, after - 1)], self.points[min(after, len(places) - 1)]
            weights.append(low if left == right else low + (high - low) * (timestep - left) / (right - left))
        return weights


Bias = LogitNormal | Table | None  # None: all timesteps are equally likely


def read_bias(sampling: str, words: Sequence[str]) -> Bias:
    """Parse the two options together. Raises ValueError with the reason and the remedy."""
    if sampling == "logit_normal":
        return _logit_normal(words)
    if sampling == "table":
        return _table(words)
    if words:
        raise ValueError("is for --timestep_sampling logit_normal or table; add one, or remove it")
    return None


def _logit_normal(words: Sequence[str]) -> LogitNormal:
    settings: dict[str, float] = {}
    for word in words:
        key, equals, text = word.partition("=")
        value = _number(text)
        if not equals or key.strip() not in ("mean", "std") or value is None:
            raise ValueError(f"expected mean=… or std=… with a number, not {quoted(word)}; the default is mean=0 std=1")
        settings[key.strip()] = value
    bias = LogitNormal(**settings)
    if not -MOST_SPREAD <= bias.mean <= MOST_SPREAD or not 0 < bias.std <= MOST_SPREAD:
        raise ValueError(
            f"mean must be from -{MOST_SPREAD:g} to {MOST_SPREAD:g}, and std over 0 and at most {MOST_SPREAD:g}, not {' '.join(words)}"
        )
    return bias


def _table(words: Sequence[str]) -> Table:
    points: dict[int, float] = {}
    for word in words:
        place, colon, text = word.partition(":")
        timestep, weight = whole_number(place), _number(text)
        if not colon or timestep is None or timestep > 999 or weight is None or not 0 <= weight <= 1e6:
            raise ValueError(f"expected timestep:weight, a timestep from 0 to 999 and a weight of at least 0, not {quoted(word)}")
        if timestep in points:
            raise ValueError(f"timestep {timestep} appears twice; give it once")
        points[timestep] = weight
    if not points:
        raise ValueError("--timestep_sampling table needs timestep:weight pairs, such as 0:1 500:3 999:1")
    return Table(tuple(sorted(points.items())))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
