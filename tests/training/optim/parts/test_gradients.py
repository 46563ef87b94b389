"""Gradients of the text encoder limited by themselves: each part beside torch's own clipping of that part alone."""

from __future__ import annotations

import math

import pytest
import torch

from library.training.optim.parts.gradients import GradientLimits, LimitedPart, clipped_norm, parts_of
from tests.training.logs.test_journal import Alone


def trained() -> list[torch.nn.Parameter]:
    """Two of the U-Net with gradients of norm 5, two of the text encoder of norm 13."""
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(4)]
    for parameter, gradient in zip(parameters, ([3.0, 0.0], [0.0, 4.0], [5.0, 0.0], [0.0, 12.0]), strict=True):
        parameter.grad = torch.tensor(gradient)
    return parameters


@pytest.mark.parametrize("limits", [(1.0, 1.0), (1.0, 0.0), (0.0, 2.0), (100.0, 0.5), (0.0, 0.0)])
def test_each_part_is_cut_as_torch_cuts_it_alone(limits: tuple[float, float]) -> None:
    parameters, same = trained(), trained()
    parts = parts_of(parameters, parameters[2:], GradientLimits(*limits))
    norm = clipped_norm(Alone(), parts)
    for part, limit in ((same[:2], limits[0]), (same[2:], limits[1])):
        torch.nn.utils.clip_grad_norm_(part, limit or math.inf)
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(parameters, same, strict=True))
    assert norm.tolist() == pytest.approx([math.hypot(5, 13)])


def test_without_a_limit_of_its_own_the_text_encoder_is_cut_together_with_the_rest() -> None:
    parameters = trained()
    (part,) = parts_of(parameters, parameters[2:], GradientLimits(1.0))
    assert part == LimitedPart(parameters, 1.0)


def test_a_text_encoder_that_has_stopped_counts_nothing() -> None:
    parameters = trained()
    for parameter in parameters[2:]:
        parameter.grad = None
    assert clipped_norm(Alone(), parts_of(parameters, parameters[2:], GradientLimits(1.0, 2.0))).tolist() == pytest.approx([5.0])
    assert torch.cat([parameter.grad for parameter in parameters[:2]]).norm() == pytest.approx(1.0, abs=1e-5)


def test_a_run_of_the_text_encoder_alone_has_its_limit() -> None:
    parameters = trained()[2:]
    (part,) = parts_of(parameters, parameters, GradientLimits(1.0, 2.0))
    assert part.limit == 2.0 and clipped_norm(Alone(), [part]).tolist() == pytest.approx([13.0])


def test_the_scale_of_fp16_is_taken_out_once_and_before_either_part_is_cut() -> None:
    """accelerate refuses to do it twice in an update."""

    class Scaled(Alone):
        unscaled = 0

        class scaler:
            is_enabled, get_scale = staticmethod(lambda: True), staticmethod(lambda: 4.0)

        def clip_grad_norm_(self, some, limit):
            assert not self.unscaled
            self.unscaled += 1
            for parameter in parameters:
                parameter.grad /= 4.0
            return torch.nn.utils.clip_grad_norm_(some, limit)

    parameters = trained()
    processes = Scaled()
    norm = clipped_norm(processes, parts_of(parameters, parameters[2:], GradientLimits(0.0, 1.0)))
    assert processes.unscaled == 1 and norm.tolist() == pytest.approx([math.hypot(5, 13) / 4])
    assert torch.cat([parameter.grad for parameter in parameters[:2]]).norm() == pytest.approx(5 / 4)
    assert torch.cat([parameter.grad for parameter in parameters[2:]]).norm() == pytest.approx(1.0, abs=1e-5)
