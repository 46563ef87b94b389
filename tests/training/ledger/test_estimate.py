"""The figures of images out of showings whose truth is known, and each formula beside one written down on its own."""

from __future__ import annotations

import numpy as np
import pytest

from library.training.ledger.estimate import LEAST_VARIANCE, Effect, Losses, effect, estimate
from library.training.ledger.smoothing import Axis


def usual(timesteps: np.ndarray) -> np.ndarray:
    """log loss over timesteps as Stable Diffusion has it: from near 1 down to a hundredth."""
    return 4.0 * np.exp(-timesteps / 150.0) - 4.5


def showings(seed: int, images: int, times: int, hardness: dict[int, float], learned: dict[int, float] | None = None) -> Losses:
    """Each image `times` times at random timesteps and moments; losses fall to two thirds over the run."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(images), times)
    timesteps, progress = rng.integers(0, 1000, len(which)), rng.random(len(which))
    noise = rng.normal(0, 0.1 + 0.4 * timesteps / 1000)
    own = np.array([hardness.get(image, 0.0) for image in range(images)])[which]
    slope = np.array([(learned or {}).get(image, np.log(2 / 3)) for image in range(images)])[which]
    return Losses(images, which, timesteps, progress, usual(timesteps) + own + slope * progress + noise)


def test_the_hardness_that_was_put_in_comes_out() -> None:
    truth = {3: 0.9, 8: 0.5, 11: -0.4}
    found = estimate(showings(0, 24, 60, truth)).hardness
    expected = np.array([truth.get(image, 0.0) for image in range(24)])
    expected -= expected.mean()
    assert np.abs(found.values - expected).max() < 0.12
    assert (np.abs(found.values - expected) < 2.6 * found.errors).all()


def test_an_image_that_is_drawn_late_or_where_noise_is_small_is_not_hard() -> None:
    """Twice the loss of a late draw is what the mean loss of an image shows, and nothing of the image."""
    usual_ones = showings(1, 24, 12, {})
    low = np.where(usual_ones.images == 5, usual_ones.timesteps // 10, usual_ones.timesteps)
    early = np.where(usual_ones.images == 7, usual_ones.progress / 10, usual_ones.progress)
    logs = usual_ones.logs - usual(usual_ones.timesteps) + usual(low) + np.log(2 / 3) * (early - usual_ones.progress)
    found = estimate(Losses(24, usual_ones.images, low, early, logs)).hardness
    raw = np.bincount(usual_ones.images, np.exp(logs), 24)
    assert raw.argmax() == 5 and np.exp(logs)[usual_ones.images == 5].mean() > 4 * np.exp(logs).mean()
    assert np.abs(found.values[[5, 7]]).max() < 0.1


def test_the_fewer_the_showings_the_nearer_to_the_usual() -> None:
    losses = showings(2, 30, 20, {4: 1.0, 9: 1.0})
    kept = (losses.images != 9) | (np.cumsum(losses.images == 9) <= 2)
    few = Losses(30, losses.images[kept], losses.timesteps[kept], losses.progress[kept], losses.logs[kept])
    found = estimate(few).hardness
    assert 0 < found.values[9] < found.values[4] and found.errors[9] > 1.5 * found.errors[4]


def test_what_was_learned_most_and_least_comes_out() -> None:
    found = estimate(showings(3, 20, 80, {2: 0.7}, {6: np.log(1 / 3), 13: 0.0}))
    slopes = found.mean_slope + found.slopes.values
    assert slopes.argmin() == 6 and slopes.argmax() == 13
    assert slopes[6] == pytest.approx(np.log(1 / 3), abs=0.25) and slopes[13] == pytest.approx(0, abs=0.25)
    assert found.mean_slope == pytest.approx(np.log(2 / 3), abs=0.1)


def test_figures_are_those_of_der_simonian_and_laird_written_down_one_by_one() -> None:
    rng = np.random.default_rng(4)
    images, values, weights = np.repeat(np.arange(5), 6), rng.normal(0, 1, 30), rng.random(30) + 0.5
    values += np.repeat([1.0, 0.0, -2.0, 0.5, 3.0], 6)
    means, whole = [], []
    for image in range(5):
        mine = [(value, weight) for value, weight, which in zip(values, weights, images, strict=True) if which == image]
        whole.append(sum(weight for _, weight in mine))
        means.append(sum(value * weight for value, weight in mine) / whole[-1])
    common = sum(one * weight for one, weight in zip(means, whole, strict=True)) / sum(whole)
    heterogeneity = sum(weight * (one - common) ** 2 for one, weight in zip(means, whole, strict=True))
    variance = (heterogeneity - 4) / (sum(whole) - sum(weight**2 for weight in whole) / sum(whole))
    assert variance > LEAST_VARIANCE
    found = effect(images, values, weights, 5)
    for image in range(5):
        assert found.values[image] == pytest.approx((means[image] - common) * whole[image] / (whole[image] + 1 / variance), rel=1e-9)
        assert found.errors[image] == pytest.approx((1 / (whole[image] + 1 / variance)) ** 0.5, rel=1e-9)


def test_a_smooth_line_is_the_weighted_fit_at_each_cell() -> None:
    """numpy.polyfit takes the roots of weights."""
    rng = np.random.default_rng(5)
    places, values, weights = rng.integers(0, 40, 300), rng.normal(0, 1, 300), rng.random(300)
    found = Axis(40, 5.0).line(places, values, weights)
    for cell in (0, 17, 39):
        near = weights * np.exp(-0.5 * ((places - cell) / 5.0) ** 2)
        slope, height = np.polyfit(places, values, 1, w=np.sqrt(near))
        assert found[cell] == pytest.approx(slope * cell + height, abs=1e-8)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_few_showings_give_finite_figures(count: int) -> None:
    losses = Losses(3, np.arange(count) % 2, np.full(count, 999), np.ones(count), np.full(count, -3.0))
    found = estimate(losses)
    for figures in (found.hardness, found.slopes):
        assert isinstance(figures, Effect) and np.isfinite(figures.values).all() and np.abs(figures.values).max() < 1e-6
