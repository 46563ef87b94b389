"""The samplers by name: a table of diffusers' schedulers and their settings on top of Stable Diffusion's schedule."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from library.errors import UserError, coded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# β from 0.00085 to 0.012, linear in √β, over 1000 steps (Rombach et al. 2022, released configurations)
_FIRST_BETA, _LAST_BETA, _TIMESTEPS = 0.00085, 0.012, 1000
SCHEDULE = {"num_train_timesteps": _TIMESTEPS, "beta_start": _FIRST_BETA, "beta_end": _LAST_BETA, "beta_schedule": "scaled_linear"}
_LEAST_SIGNAL = 2.0**-24  # ā at the last timestep of zero terminal SNR: 0 would make σ infinite; diffusers uses the same value


class Stepped(Protocol):
    """The result of a scheduler's step."""

    prev_sample: Tensor


class Scheduler(Protocol):
    """The part of a diffusers scheduler that generation needs; some draw noise in a step, from their `generator`."""

    timesteps: Tensor
    order: int  # timesteps per step: 2 if each is corrected once
    step: Callable[..., Stepped]  # (prediction, timestep, latents)

    @property
    def init_noise_sigma(self) -> float | Tensor:
        """The standard deviation of the start latents."""

    def set_timesteps(self, num_inference_steps: int, device: torch.device) -> None:
        """Choose the timesteps."""

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Add the noise of a timestep to latents."""

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Scale the latents for the U-Net at a timestep."""


@dataclass(frozen=True)
class Sampler:
    """A diffusers scheduler class and its settings."""

    scheduler: str
    settings: dict[str, Any] = field(default_factory=dict)


_DDIM = Sampler("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1})
_PNDM = Sampler("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1})
_LMS = Sampler("LMSDiscreteScheduler", {"steps_offset": 1})
_EULER = Sampler("EulerDiscreteScheduler", {"steps_offset": 1})
_EULER_A = Sampler("EulerAncestralDiscreteScheduler", {"steps_offset": 1})
_HEUN = Sampler("HeunDiscreteScheduler", {"steps_offset": 1, "clip_sample": False})
_DPM_2 = Sampler("KDPM2DiscreteScheduler", {"steps_offset": 1})
_DPM_2_A = Sampler("KDPM2AncestralDiscreteScheduler", {"steps_offset": 1})

SAMPLERS: dict[str, Sampler] = {
    "ddim": _DDIM,
    "pndm": _PNDM,
    "lms": _LMS,
    "k_lms": _LMS,
    "euler": _EULER,
    "k_euler": _EULER,
    "euler_a": _EULER_A,
    "k_euler_a": _EULER_A,
    "heun": _HEUN,
    "dpm_2": _DPM_2,
    "k_dpm_2": _DPM_2,
    "dpm_2_a": _DPM_2_A,
    "k_dpm_2_a": _DPM_2_A,
    # The first-order formulation divides by the last σ, which must not be zero.
    "dpmsolver": Sampler(
        "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "steps_offset": 1}
    ),
    "dpmsolver++": Sampler("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "steps_offset": 1}),
    "dpmsingle": Sampler("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
}


def make_scheduler(name: str, prediction: str, zero_terminal_snr: bool = False) -> Scheduler:
    """Create diffusers' scheduler for the sampler `name` and a model that predicts "epsilon" or "v_prediction".

    For a model trained with `zero_terminal_snr` it uses that schedule and starts at its last timestep (Lin et al. 2023, sec. 3.3).
    """
    import diffusers

    if name not in SAMPLERS:
        raise UserError(coded("OPT-006", f"--sample_sampler {name}: unknown sampler; use one of {' '.join(SAMPLERS)}"))
    row, schedule = SAMPLERS[name], SCHEDULE
    if zero_terminal_snr:
        schedule = SCHEDULE | {"trained_betas": zero_terminal_snr_betas()}
        if row.scheduler != "DPMSolverSinglestepScheduler":  # it lacks this setting, and starts there anyway
            schedule["timestep_spacing"] = "trailing"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # diffusers plans to drop "dpmsolver"
        scheduler: Scheduler = getattr(diffusers, row.scheduler)(**schedule, **row.settings, prediction_type=prediction)
        return scheduler


def zero_terminal_snr_betas() -> list[float]:
    """β of each timestep such that ā starts as before and ends at 0, or just above (Lin et al. 2023, alg. 1)."""
    betas = np.linspace(_FIRST_BETA**0.5, _LAST_BETA**0.5, _TIMESTEPS) ** 2
    roots = np.sqrt(np.cumprod(1.0 - betas))
    alphas = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
    alphas[-1] = _LEAST_SIGNAL
    adapted: list[float] = (1.0 - alphas / np.concatenate([[1.0], alphas[:-1]])).tolist()
    return adapted
