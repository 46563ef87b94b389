"""The forward process of Stable Diffusion: how much image and how much noise a latent contains at each timestep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]

TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """ā per timestep (Ho et al. 2020, eq. 4); `alphas_cumprod` is float32 [T], timesteps are int64 [B] in 0 … T−1 on its device.

    Coefficients are computed in float32 for any dtype of the latents; the results have the latents' dtype.
    """

    alphas_cumprod: Tensor

    @classmethod
    def stable_diffusion(cls) -> NoiseSchedule:
        """The schedule that every SD v1 and v2 model was trained with: √β runs evenly from √0.00085 to √0.012 over 1000 steps."""
        betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TIMESTEPS, dtype=torch.float32) ** 2
        return cls(torch.cumprod(1.0 - betas, dim=0))

    def with_zero_terminal_snr(self) -> NoiseSchedule:
        """Shift and stretch the schedule so that the last timestep contains nothing of the image, and the first one as much as before.

        √ā′_t = (√ā_t − √ā_T)·√ā_1 / (√ā_1 − √ā_T) (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", sec.
        3.1 and alg. 1).
        """
        roots = self.alphas_cumprod.double().sqrt()
        moved = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
        return NoiseSchedule(moved.square().to(self.alphas_cumprod.dtype))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule on `device`."""
        return NoiseSchedule(self.alphas_cumprod.to(device))

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = √ā·x₀ + √(1−ā)·ε (Ho et al. 2020, eq. 4); all [B,4,h,w]."""
        signal, spread = self._coefficients(timesteps)
        return (signal * latents + spread * noise).to(latents.dtype)

    def velocity(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = √ā·ε − √(1−ā)·x₀ (Salimans & Ho 2022, app. D); all [B,4,h,w]."""
        signal, spread = self._coefficients(timesteps)
        return (signal * noise - spread * latents).to(latents.dtype)

    def target(self, prediction: Prediction, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What a model with this `prediction` must predict from x_t: the noise or the velocity."""
        if prediction == "epsilon":
            return noise
        assert prediction == "v_prediction", prediction
        return self.velocity(latents, noise, timesteps)

    def snr(self, timesteps: Tensor | None = None) -> Tensor:
        """Signal-to-noise ratio ā / (1−ā), float32 [B]; of every timestep [T] if `timesteps` is None."""
        alphas = self.alphas_cumprod if timesteps is None else self.alphas_cumprod[timesteps]
        return alphas / (1.0 - alphas)

    def _coefficients(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return alphas.sqrt(), (1.0 - alphas).sqrt()
