"""Rules of noise and loss are in one place, before torch: all that they allow has a noise and a loss."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch

from library.diffusion.schedule import Prediction
from library.errors import Problem, UserError
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.options.rules.loss_rules import noise_and_loss
from library.options.rules.option_view import OptionView
from library.training.step.noise_and_loss import noise_settings, objective_of, schedule_of
from tests.messages import refusal

VALUES = {
    "noise_offset": ("-0.1", "0", "0.1"),
    "adaptive_noise_scale": ("0", "0.1"),
    "noise_offset_random_strength": (None,),
    "ip_noise_gamma": ("-0.1", "0", "0.1"),
    "ip_noise_gamma_random_strength": (None,),
    "multires_noise_iterations": ("-1", "0", "6"),
    "multires_noise_discount": ("-0.1", "0", "1", "1.1"),
    "min_snr_gamma": ("-1", "0", "5"),
    "scale_v_pred_loss_like_noise_pred": (None,),
    "debiased_estimation_loss": (None,),
    "v_pred_like_loss": ("-0.1", "0", "0.1"),
    "loss_type": ("huber",),
    "huber_schedule": ("constant", "exponential"),
    "huber_c": ("-1", "0", "1", "2"),
    "huber_scale": ("-1", "0", "2"),
    "zero_terminal_snr": (None,),
    "v_parameterization": (None,),
}
SWITCHED = [(name, value) for name, values in VALUES.items() for value in values]


def lines(*chosen: tuple[str, str | None]) -> list[Problem]:
    """What the command line or the rules report against these options; builds noise and loss where nothing is reported."""
    argv = [word for name, value in chosen for word in (f"--{name}", value) if word is not None]
    try:
        options = parse(TrainNetwork, argv)
    except UserError as error:
        return list(error.problems)
    said = list(noise_and_loss(OptionView(options)))
    if not said:
        prediction: Prediction = "v_prediction" if options.model.v_parameterization else "epsilon"
        schedule = schedule_of(options.diffusion, torch.device("cpu"))
        noise_settings(options.diffusion)
        weights = objective_of(options.diffusion, schedule, prediction).weights
        assert weights is None or bool(weights.isfinite().all())
    return said


def test_what_the_rules_let_through_has_noise_and_finite_weights() -> None:
    pairs = [pair for pair in combinations(SWITCHED, 2) if pair[0][0] != pair[1][0]]
    with_models = product(pairs, ([], [("zero_terminal_snr", None)], [("v_parameterization", None)]))
    said = [bool(lines(*dict([*pair, *model]).items())) for pair, model in with_models]
    assert 0.2 < sum(said) / len(said) < 0.9  # neither all nor nothing


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        ({"adaptive_noise_scale": "0.1"}, ("OPT-009", "--noise_offset 0.1")),
        ({"zero_terminal_snr": None, "v_pred_like_loss": "0.1"}, ("OPT-008", "infinite weight")),
        ({"v_pred_like_loss": "0.1", "v_parameterization": None}, ("OPT-008", "noise")),
        ({"loss_type": "huber", "huber_c": "2"}, ("OPT-006", "over 0", "at most 1")),
    ],
)
def test_a_contradiction_is_told_in_one_line_that_begins_with_an_option(argv: dict[str, str | None], asked: tuple[str, ...]) -> None:
    (line,) = lines(*argv.items())
    assert line.split(": ")[0].removeprefix("--") in argv
    refusal([line], *asked)
