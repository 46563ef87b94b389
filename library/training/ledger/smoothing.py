"""Smooth means over an axis: the usual value at a timestep, or at a point of the run, from showings that are spread randomly over it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Places = npt.NDArray[Any]


@dataclass(frozen=True)
class Axis:
    """`count` equal cells of an axis, smoothed with a Gaussian whose standard deviation is `bandwidth` cells."""

    count: int
    bandwidth: float
    distance: Values = field(init=False)
    kernel: Values = field(init=False)

    def __post_init__(self) -> None:
        cells = np.arange(self.count, dtype=np.float64)
        distance = cells[None, :] - cells[:, None]
        object.__setattr__(self, "distance", distance)
        object.__setattr__(self, "kernel", np.exp(-0.5 * np.square(distance / self.bandwidth)))

    def line(self, places: Places, values: Values, weights: Values) -> Values:
        """The local linear fit at each cell (Fan & Gijbels 1996, eq. 3.4, degree 1), which a slope does not bias as it biases a local mean.

        Falls back to the mean where all values are in one cell.
        """
        weight, total = self._sums(places, weights), self._sums(places, weights * values)
        moments = [(self.kernel * self.distance**power) @ weight for power in range(3)]
        sums = [(self.kernel * self.distance**power) @ total for power in range(2)]
        determinant = moments[0] * moments[2] - moments[1] ** 2
        straight = determinant > 1e-9 * moments[0] ** 2
        through = (moments[2] * sums[0] - moments[1] * sums[1]) / np.where(straight, determinant, 1.0)
        return np.asarray(np.where(straight, through, sums[0] / np.maximum(moments[0], 1e-300)))

    def mean(self, places: Places, values: Values) -> Values:
        """The local mean at each cell."""
        weight = self.kernel @ self._sums(places, np.ones(len(values)))
        return np.asarray((self.kernel @ self._sums(places, values)) / np.maximum(weight, 1e-300))

    def _sums(self, places: Places, values: Values) -> Values:
        return np.bincount(places, values, self.count).astype(np.float64)
