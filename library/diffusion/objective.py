"""The loss of each image: squared error between prediction and target, weighted by how noisy the image's timestep is."""

from __future__ import annotations

import torch
from torch import Tensor

from library.diffusion.schedule import NoiseSchedule, Prediction
from library.errors import UserError


class Objective:
    """`objective(predicted, target, timesteps)` -> loss per image, float32 [B]; `weights` float32 [T] is the factor of each timestep.

    With snr = ā/(1−ā):

    * `min_snr_gamma` γ: min(snr, γ)/snr for ε, min(snr, γ)/(snr+1) for v (Hang et al. 2023, eq. 7 and app. A).
    * `scale_v_like_noise`: snr/(snr+1), v models only. From x_t the noise follows as ε = √ā·v + √(1−ā)·x_t, so
      |ε̂−ε|² = ā·|v̂−v|² and ā = snr/(snr+1): the loss of a v model gets the scale that the same error has in an ε model.
    * Both: min(snr, γ)/(snr+1). The min-SNR weight of v *is* that of ε times ā, and the change of scale is made once, not twice.

    Raises UserError for a γ that is not positive and for `scale_v_like_noise` with an ε model.
    """

    def __init__(
        self, schedule: NoiseSchedule, prediction: Prediction, min_snr_gamma: float | None = None, scale_v_like_noise: bool = False
    ) -> None:
        if min_snr_gamma is not None and min_snr_gamma <= 0:
            raise UserError(f"--min_snr_gamma {min_snr_gamma:g}: must be over 0; 5 is the usual value, or leave the option out")
        if scale_v_like_noise and prediction == "epsilon":
            raise UserError(
                "--scale_v_pred_loss_like_noise_pred: is for models that predict v; add --v_parameterization if yours does, or leave it out"
            )
        self.weights = _weights(schedule, prediction, min_snr_gamma, scale_v_like_noise)

    def __call__(self, predicted: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """`predicted` and `target` [B,4,h,w] of any float type; `timesteps` int64 [B] on the schedule's device."""
        losses = (predicted.float() - target.float()).square().mean(dim=(1, 2, 3))
        return losses if self.weights is None else losses * self.weights[timesteps]


def _weights(schedule: NoiseSchedule, prediction: Prediction, gamma: float | None, scale_v_like_noise: bool) -> Tensor | None:
    """The factor of each timestep [T], or None when all are 1; computed once in float64."""
    if gamma is None and not scale_v_like_noise:
        return None
    alphas = schedule.alphas_cumprod.to("cpu", torch.float64)
    snr = alphas / (1.0 - alphas)
    weights = torch.ones_like(snr) if gamma is None else snr.clamp(max=gamma) / snr
    if prediction == "v_prediction":
        weights = weights * alphas
    return weights.to(schedule.alphas_cumprod.device, torch.float32)
