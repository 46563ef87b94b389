"""From the options of noise and loss to the values that a training step works with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from library.diffusion.noise import NoiseSettings
from library.diffusion.objective import Objective, ObjectiveSettings
from library.diffusion.pointwise import PointwiseSettings
from library.diffusion.schedule import NoiseSchedule


def noise_settings(values: Mapping[str, Any]) -> NoiseSettings:
    """The noise that the options describe, `values` by field name. Raises UserError where they contradict each other."""
    return NoiseSettings(
        offset=values["noise_offset"] or 0.0,
        adaptive_scale=values["adaptive_noise_scale"] or 0.0,
        multires_iterations=values["multires_noise_iterations"] or 0,
        multires_discount=values["multires_noise_discount"],
        offset_random=values["noise_offset_random_strength"],
        perturbation=values["ip_noise_gamma"] or 0.0,
        perturbation_random=values["ip_noise_gamma_random_strength"],
    )


def schedule_of(values: Mapping[str, Any], device: torch.device) -> NoiseSchedule:
    """Stable Diffusion's schedule, or the one with zero terminal SNR, on `device`."""
    schedule = NoiseSchedule.stable_diffusion()
    return (schedule.with_zero_terminal_snr() if values["zero_terminal_snr"] else schedule).to(device)


def objective_of(values: Mapping[str, Any], schedule: NoiseSchedule, prediction: Any) -> Objective:
    """The loss that the options describe for a model of that `prediction`. Raises UserError where they contradict each other."""
    distance = PointwiseSettings(values["loss_type"], values["huber_schedule"], values["huber_c"], values["huber_scale"])
    settings = ObjectiveSettings(
        min_snr_gamma=values["min_snr_gamma"] or None,
        debiased=values["debiased_estimation_loss"],
        scale_v_like_noise=values["scale_v_pred_loss_like_noise_pred"],
        v_like=values["v_pred_like_loss"] or 0.0,
        pointwise=distance,
    )
    return Objective(schedule, prediction, settings)
