"""The loss of each image: distance between prediction and target, masked, and weighted by how noisy the image's timestep is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from library.diffusion.pointwise import Pointwise, PointwiseSettings
from library.diffusion.schedule import NoiseSchedule, Prediction


@dataclass(frozen=True)
class ObjectiveSettings:
    """Changes to the plain mean squared error; the defaults change nothing. `Objective` explains each field."""

    min_snr_gamma: float | None = None
    debiased: bool = False
    scale_v_like_noise: bool = False
    v_like: float = 0.0
    pointwise: PointwiseSettings = field(default_factory=PointwiseSettings)


class Objective:
    """`objective(predicted, target, timesteps, masks)` -> loss per image, float32 [B]; `weights` float32 [T] is the factor per timestep.

    With snr = ā/(1−ā), a weight is the paper's weight for the error of x₀ divided by the factor between that error and the model's: |ε̂−ε|²
    = snr·|x̂₀−x₀|² and |v̂−v|² = (snr+1)·|x̂₀−x₀|² (Salimans & Ho 2022, sec. 4 and app. D).

    * `min_snr_gamma` γ: min(snr, γ)/snr for ε, min(snr, γ)/(snr+1) for v (Hang et al. 2023, eq. 7 and app. A).
    * `debiased`: 1/√snr for ε (Yu et al. 2023, "Debias the Training of Diffusion Models", the weight of the debiased loss), which is
      √snr for x₀ and therefore √snr/(snr+1) for v.
    * `scale_v_like_noise`: snr/(snr+1), v models only. From x_t the noise follows as ε = √ā·v + √(1−ā)·x_t, so
      |ε̂−ε|² = ā·|v̂−v|² and ā = snr/(snr+1): the loss of a v model gets the scale that the same error has in an ε model.
    * `scale_v_like_noise` with one of the first two, or both: their v weights alone. A v weight *is* the ε weight times ā, so the scale
      is changed once, not twice.
    * `min_snr_gamma` and `debiased`: their product, as in sd-scripts: min(snr, γ)/snr^1.5 for ε, min(snr, γ)·√snr/(snr+1)² for v.
    * `v_like` k: 1 + k·(snr+1)/snr, ε models only, on top of the others: the loss plus k times the loss of the same error in a v model.

    At snr 0 (zero terminal SNR) min-SNR takes its limit: 1 for ε, 0 for v. Raises ValueError for settings without a weight for this kind of
    model or schedule, or that exclude each other.
    """

    def __init__(self, schedule: NoiseSchedule, prediction: Prediction, settings: ObjectiveSettings | None = None) -> None:
        settings = settings or ObjectiveSettings()
        _check(schedule, prediction, settings)
        self.weights = _weights(schedule, prediction, settings)
        self.pointwise = Pointwise(schedule, settings.pointwise)

    def __call__(self, predicted: Tensor, target: Tensor, timesteps: Tensor, masks: Tensor | None = None) -> Tensor:
        """`predicted` and `target` [B,4,h,w] of any float type; `timesteps` int64 [B] on the schedule's device; `masks` [B,1,h,w] in
        0…1.

        Masked-out values count as zero error: the mean is over the whole image, so a small mask makes a small loss.
        """
        losses = self.pointwise(predicted.float(), target.float(), timesteps)
        if masks is not None:
            losses = losses * masks
        per_image = losses.mean(dim=(1, 2, 3))
        return per_image if self.weights is None else per_image * self.weights[timesteps]


def _check(schedule: NoiseSchedule, prediction: Prediction, settings: ObjectiveSettings) -> None:
    gamma = settings.min_snr_gamma
    if (gamma is not None and gamma <= 0) or settings.v_like < 0:
        raise ValueError(f"min_snr_gamma is over 0 and v_like not negative: {settings}")
    if prediction == "v_prediction":
        if settings.v_like:
            raise ValueError("v_like is for models that predict ε")
        return
    if settings.scale_v_like_noise:
        raise ValueError("scale_v_like_noise is for models that predict v")
    if (settings.debiased or settings.v_like) and not schedule.alphas_cumprod[-1] > 0:
        raise ValueError("debiased and v_like have an infinite weight where a model that predicts ε meets pure noise")


def _weights(schedule: NoiseSchedule, prediction: Prediction, settings: ObjectiveSettings) -> Tensor | None:
    """Return the factor of each timestep [T], or None if all are 1; computed once in float64."""
    gamma = settings.min_snr_gamma
    if gamma is None and not (settings.debiased or settings.scale_v_like_noise or settings.v_like):
        return None
    alphas = schedule.alphas_cumprod.to("cpu", torch.float64)
    snr = alphas / (1.0 - alphas)
    of_v = prediction == "v_prediction"
    weights = torch.ones_like(snr)
    if gamma is not None:
        of_noise = gamma / snr.clamp(min=gamma)  # min(snr, γ)/snr, also at snr 0
        weights = weights * (of_noise * alphas if of_v else of_noise)
    if settings.debiased:
        weights = weights * (snr.sqrt() / (snr + 1.0) if of_v else snr.rsqrt())
    if settings.scale_v_like_noise and gamma is None and not settings.debiased:
        weights = weights * alphas
    if settings.v_like:
        weights = weights * (1.0 + settings.v_like / alphas)
    return weights.to(schedule.alphas_cumprod.device, torch.float32)
