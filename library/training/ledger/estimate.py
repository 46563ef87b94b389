"""Estimates how hard each image is and how much of it was learned, from losses that depend on the timestep far more than on the image.

The loss L of a showing of image i at timestep t, after a share p of the run (0 … 1), is modelled as

    log L = f(t) + g(p) + h_i + e,    e with mean 0 and variance s²(t)

f and g are smooth curves (`Axis.line`), s² is a smooth mean of squared residuals; they and h are fitted in turn (backfitting: Hastie &
Tibshirani 1990, sec. 4.4). With the weights w = 1/s²(t) of an image's showings, W_i = Σ w and the weighted mean m_i of log L − f − g,

    h_i = (m_i − m̄)·W_i / (W_i + 1/τ²),    with standard error √(1 / (W_i + 1/τ²))

is the mean, shrunk towards 0 for images with few showings (the BLUP of a random effect: Robinson 1991). τ², the variance between images, is
that of DerSimonian & Laird (1986, eq. 8), at least `LEAST_VARIANCE`. exp(h_i) is "so many times the usual loss at the timesteps that it was
shown at, at its time in the run": neither a late showing nor much noise makes it large.

What was learned is the slope of log L − f(t) over p, separately for each image: weighted least squares with a constant per image, shrunk to
the mean slope in the same way. 1 − exp(slope) is the share of its loss that disappeared between the start of the run and now.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from library.training.ledger.smoothing import Axis, Places, Values

TIMESTEPS = 1000
CELL = 5  # timesteps
LEAST_BANDWIDTH, WIDEST_BANDWIDTH = 25.0, 300.0  # timesteps; the second times (showings)^(−1/5)
MOMENTS, MOMENT_BANDWIDTH = 40, 6.0  # cells of the run
LEAST_VARIANCE = 1e-4
ROUNDS = 6


@dataclass(frozen=True)
class Losses:
    """The showings of images to compare: `images` 0 … `count` − 1, `timesteps`, `progress` 0 … 1, and `logs`, the logarithms of losses."""

    count: int
    images: Places
    timesteps: Places
    progress: Values
    logs: Values


@dataclass(frozen=True)
class Effect:
    """A figure per image, shrunk towards 0 where showings are few, and its standard error."""

    values: Values
    errors: Values


@dataclass(frozen=True)
class Estimate:
    """`over_usual` is log L − f − g per showing, `over_curve` log L − f, `weights` are 1/s²; slopes are relative to `mean_slope`."""

    hardness: Effect
    slopes: Effect
    mean_slope: float
    over_usual: Values
    over_curve: Values
    weights: Values


def estimate(losses: Losses) -> Estimate:
    """Fit the curves and the figures of the images; a figure is 0 where there is nothing to compare the image with."""
    cells = np.minimum(losses.timesteps // CELL, TIMESTEPS // CELL - 1)
    moments = np.round(losses.progress * (MOMENTS - 1)).astype(np.int64)
    bandwidth = max(LEAST_BANDWIDTH, WIDEST_BANDWIDTH * max(1, len(losses.logs)) ** -0.2)
    by_timestep, by_moment = Axis(TIMESTEPS // CELL, bandwidth / CELL), Axis(MOMENTS, MOMENT_BANDWIDTH)
    weights, trend = np.ones(len(losses.logs)), np.zeros(len(losses.logs))
    hardness = Effect(np.zeros(losses.count), np.zeros(losses.count))
    curve = np.zeros(len(losses.logs))
    for _ in range(ROUNDS):
        own = hardness.values[losses.images]
        curve = by_timestep.line(cells, losses.logs - trend - own, weights)[cells]
        of_run = by_moment.line(moments, losses.logs - curve - own, weights)
        trend = of_run[moments] - of_run.mean()
        over = losses.logs - curve - trend
        spread = by_timestep.mean(cells, np.square(over - own))
        weights = 1.0 / np.maximum(spread[cells], LEAST_VARIANCE)
        hardness = effect(losses.images, over, weights, losses.count)
    over_curve = losses.logs - curve
    slopes, mean = _slopes(losses, over_curve, weights)
    return Estimate(hardness, slopes, mean, losses.logs - curve - trend, over_curve, weights)


def effect(images: Places, values: Values, weights: Values, count: int) -> Effect:
    """The shrunk means of the images, relative to the mean of all, as in the module's docstring."""
    whole = np.bincount(images, weights, count).astype(np.float64)
    means = np.bincount(images, weights * values, count) / np.where(whole, whole, 1.0)
    return _drawn(means, whole)[0]


def _drawn(means: Values, precisions: Values) -> tuple[Effect, float]:
    """`means` with these precisions, shrunk to their common mean, and that mean; 0 for an image of precision 0."""
    total = float(precisions.sum())
    if not total:
        return Effect(np.zeros(len(means)), np.zeros(len(means))), 0.0
    common = float((precisions * means).sum() / total)
    about = np.where(precisions > 0, means - common, 0.0)
    freedom = max(0, int((precisions > 0).sum()) - 1)
    scale = total - float((precisions**2).sum()) / total
    excess = float((precisions * about**2).sum()) - freedom
    variance = max(LEAST_VARIANCE, excess / scale) if scale > 0 else LEAST_VARIANCE
    whole = precisions + 1.0 / variance
    return Effect(about * precisions / whole, np.sqrt(1.0 / whole)), common


def _slopes(losses: Losses, values: Values, weights: Values) -> tuple[Effect, float]:
    """The slope of `values` over the run per image, relative to the mean slope; and the mean slope."""
    images, count = losses.images, losses.count
    whole = np.bincount(images, weights, count).astype(np.float64)
    safe = np.where(whole, whole, 1.0)
    middle = np.bincount(images, weights * losses.progress, count) / safe
    mean = np.bincount(images, weights * values, count) / safe
    along = losses.progress - middle[images]
    precisions = np.bincount(images, weights * along**2, count)
    slopes = np.bincount(images, weights * along * (values - mean[images]), count)
    usable = precisions > 1e-9 * safe
    return _drawn(np.where(usable, slopes / np.where(usable, precisions, 1.0), 0.0), np.where(usable, precisions, 0.0))
