"""Turns the options of noise and loss into the values of a training step."""

from __future__ import annotations

import torch

from library.diffusion.noise import NoiseSettings
from library.diffusion.objective import Objective, ObjectiveSettings
from library.diffusion.pointwise import PointwiseSettings
from library.diffusion.schedule import NoiseSchedule, Prediction
from library.diffusion.timesteps import TimestepDraws, by_weights, logit_normal
from library.options.groups.diffusion import DiffusionOptions
from library.options.timestep_bias import LogitNormal, read_bias


def noise_settings(options: DiffusionOptions) -> NoiseSettings:
    """Return the noise settings that the options describe."""
    return NoiseSettings(
        offset=options.noise_offset or 0.0,
        adaptive_scale=options.adaptive_noise_scale or 0.0,
        multires_iterations=options.multires_noise_iterations or 0,
        multires_discount=options.multires_noise_discount,
        offset_random=options.noise_offset_random_strength,
        perturbation=options.ip_noise_gamma or 0.0,
        perturbation_random=options.ip_noise_gamma_random_strength,
    )


def schedule_of(options: DiffusionOptions, device: torch.device) -> NoiseSchedule:
    """Return Stable Diffusion's schedule, or the one with zero terminal SNR, on `device`."""
    schedule = NoiseSchedule.stable_diffusion()
    return (schedule.with_zero_terminal_snr() if options.zero_terminal_snr else schedule).to(device)


def objective_of(options: DiffusionOptions, schedule: NoiseSchedule, prediction: Prediction) -> Objective:
    """Return the loss that the options describe for a model of that `prediction`; `rules.loss_rules` has refused contradictions."""
    settings = ObjectiveSettings(
        min_snr_gamma=options.min_snr_gamma or None,
        debiased=options.debiased_estimation_loss,
        scale_v_like_noise=options.scale_v_pred_loss_like_noise_pred,
        v_like=options.v_pred_like_loss or 0.0,
        pointwise=PointwiseSettings(options.loss_type, options.huber_schedule, options.huber_c, options.huber_scale),
    )
    return Objective(schedule, prediction, settings)


def timestep_draws(options: DiffusionOptions) -> TimestepDraws:
    """Return how the options draw timesteps; `rules.loss_rules` has refused unreadable settings, and weights that are all 0."""
    among, stratified = range(options.min_timestep, options.max_timestep), options.stratified_timesteps
    bias = read_bias(options.timestep_sampling, options.timestep_bias)
    if isinstance(bias, LogitNormal):
        return logit_normal(among, bias.mean, bias.std, stratified)
    if bias is None:
        return TimestepDraws(among, None, stratified)
    return by_weights(among, bias.weights(among), stratified)
