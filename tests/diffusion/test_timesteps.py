"""Timesteps: how often each is drawn, compared with the paper's density or the table itself; and draws of an update that miss nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from library.diffusion.timesteps import TimestepDraws, by_weights, drawn_timesteps, logit_normal
from library.options.timestep_bias import LogitNormal, Table, read_bias
from library.seeds import fold
from tests.messages import message

ALL = range(1000)


def shares_of(draws: TimestepDraws, seeds: range = range(40000)) -> np.ndarray:
    """How often each timestep of the schedule is drawn."""
    return np.bincount(draws.numbers(seeds), minlength=1000) / len(seeds)


def test_uniform_draws_are_those_of_ever() -> None:
    """What every run before this option has drawn: a remainder of the image's own number."""
    for among in (ALL, range(200, 210)):
        drawn = TimestepDraws(among).numbers(range(500))
        assert drawn == [among[fold(seed, "timestep") % len(among)] for seed in range(500)]
        assert TimestepDraws(among).numbers(range(500), torch.zeros(500, 2, dtype=torch.int64)) == drawn


def test_uniform_draws_are_uniform() -> None:
    counts = np.bincount(np.array(TimestepDraws(ALL).numbers(range(20000))) // 100, minlength=10)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi-square over 10 bins: passed by 99.9 % of uniform draws
    assert set(TimestepDraws(range(200, 210)).numbers(range(3000))) == set(range(200, 210))


def test_a_draw_is_the_images_own() -> None:
    for draws in (TimestepDraws(ALL), logit_normal(ALL, 0, 1), by_weights(ALL, [1.0] * 1000)):
        assert draws.numbers(torch.tensor([19, 5])) == [draws.numbers([19])[0], draws.numbers([5])[0]]


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 0.5), (-1.0, 1.5)])
def test_logit_normal_is_the_density_of_the_paper(mean: float, std: float) -> None:
    """Esser et al. 2024, eq. 19, summed in 200 points a timestep."""
    t = (np.arange(1000 * 200) + 0.5) / (1000 * 200)
    density = np.exp(-((np.log(t / (1 - t)) - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi) * t * (1 - t))
    expected = density.reshape(1000, 200).mean(axis=1) / 1000
    shares = np.diff([0.0, *(logit_normal(ALL, mean, std).shares or ())])
    assert np.abs(shares - expected).max() < 2e-7 and shares.sum() == pytest.approx(1)
    measured = shares_of(logit_normal(ALL, mean, std)).reshape(10, 100).sum(axis=1)
    assert np.abs(measured - expected.reshape(10, 100).sum(axis=1)).max() < 0.01


def test_a_table_is_drawn_by_its_straight_lines() -> None:
    bias = read_bias("table", ["200:1", "600:3", "900:0"])
    assert isinstance(bias, Table)
    expected = np.interp(np.arange(1000), [200, 600, 900], [1, 3, 0])
    assert np.allclose(bias.weights(ALL), expected)
    shares = np.diff([0.0, *(by_weights(ALL, bias.weights(ALL)).shares or ())])
    assert np.allclose(shares, expected / expected.sum(), atol=1e-12)
    measured = shares_of(by_weights(ALL, bias.weights(ALL)))
    assert measured[900:].sum() == 0 and np.abs(measured.reshape(10, 100).sum(axis=1) - shares.reshape(10, 100).sum(axis=1)).max() < 0.01
    part = by_weights(range(500, 700), bias.weights(range(500, 700))).numbers(range(5000))
    assert min(part) >= 500 and max(part) < 700


def test_weights_that_are_all_0_leave_nothing() -> None:
    with pytest.raises(ValueError, match="weight 0"):
        by_weights(range(10), [0.0] * 10)


DRAWS = {
    "uniform": TimestepDraws(ALL, None, True),
    "logit_normal": logit_normal(ALL, 0.5, 1.0, True),
    "table": by_weights(ALL, Table(((0, 1.0), (999, 4.0))).weights(ALL), True),
}


@pytest.mark.parametrize("draws", DRAWS.values(), ids=DRAWS)
def test_an_update_has_one_draw_in_each_stretch_of_equal_probability(draws: TimestepDraws) -> None:
    count = 8
    edges = [draws.at(number / count) for number in range(count)] + [999]
    for update in range(50):
        order = np.random.default_rng(update).permutation(count)
        strata = torch.tensor([[place, count] for place in order])
        drawn = draws.numbers(range(100 * update, 100 * update + count), strata)
        for place, timestep in zip(order, drawn, strict=True):
            assert edges[place] <= timestep <= edges[place + 1]


@pytest.mark.parametrize("draws", DRAWS.values(), ids=DRAWS)
def test_each_images_own_draws_stay_distributed_as_they_were(draws: TimestepDraws) -> None:
    rng, count = np.random.default_rng(0), 4
    strata = torch.from_numpy(np.stack([rng.integers(0, count, 40000), np.full(40000, count)], axis=1))
    counts = np.bincount(np.array(draws.numbers(range(40000), strata)) // 100, minlength=10) / 40000
    plain = TimestepDraws(draws.among, draws.shares)
    assert np.abs(counts - shares_of(plain).reshape(10, 100).sum(axis=1)).max() < 0.012


def test_the_mean_of_a_stratified_update_scatters_far_less() -> None:
    """A loss that falls with the timestep as Stable Diffusion's does; 4 images an update."""
    loss = 4.0 * np.exp(-np.arange(1000) / 150.0)
    deviations = []
    for draws in (TimestepDraws(ALL), DRAWS["uniform"]):
        means = []
        for update in range(2000):
            order = np.random.default_rng(update).permutation(4)
            strata = torch.tensor([[place, 4] for place in order])
            means.append(loss[draws.numbers(range(4 * update, 4 * update + 4), strata)].mean())
        deviations.append(np.std(means))
        assert np.mean(means) == pytest.approx(loss.mean(), rel=0.05)
    assert deviations[1] < 0.55 * deviations[0]


def test_without_a_place_in_an_update_a_draw_is_from_all() -> None:
    assert DRAWS["uniform"].numbers(range(9)) == TimestepDraws(ALL).numbers(range(9))


def test_they_come_as_whole_numbers_on_the_device() -> None:
    drawn = drawn_timesteps(DRAWS["table"], torch.tensor([3, 4]), torch.tensor([[0, 2], [1, 2]]), torch.device("cpu"))
    assert drawn.dtype == torch.int64 and drawn.shape == (2,)


@pytest.mark.parametrize(
    ("sampling", "words", "names"),
    [
        ("uniform", ["mean=1"], ("--timestep_sampling logit_normal or table",)),
        ("logit_normal", ["mean"], ("mean=… or std=…", "'mean'")),
        ("logit_normal", ["meen=1"], ("mean=… or std=…", "'meen=1'")),
        ("logit_normal", ["std=0"], ("std", "over 0", "10")),
        ("logit_normal", ["mean=nan"], ("mean=… or std=…", "'mean=nan'")),
        ("table", [], ("--timestep_sampling table", "timestep:weight")),
        ("table", ["1000:1"], ("0 to 999", "1000")),
        ("table", ["5:-1"], ("at least 0", "-1")),
        ("table", ["5=1"], ("timestep:weight", "'5=1'")),
        ("table", ["5:1", "05:2"], ("timestep 5", "twice")),
    ],
)
def test_a_bias_that_cannot_be_read_says_why(sampling: str, words: list[str], names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as error:
        read_bias(sampling, words)
    message(error.value, *names)


def test_a_bias_is_read() -> None:
    assert read_bias("uniform", []) is None
    assert read_bias("logit_normal", []) == LogitNormal(0.0, 1.0)
    assert read_bias("logit_normal", ["std=0.5", "mean=-1"]) == LogitNormal(-1.0, 0.5)
    assert read_bias("table", ["999:1", "0:2"]) == Table(((0, 2.0), (999, 1.0)))
