"""The noise of each image, drawn from the image's seed so that it does not depend on the other images of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from library.seeds import fold, python_rng


@dataclass(frozen=True)
class NoiseSettings:
    """Changes to plain Gaussian noise; the defaults change nothing. Raises ValueError for an invalid value."""

    offset: float = 0.0
    adaptive_scale: float = 0.0
    multires_iterations: int = 0
    multires_discount: float = 0.3
    offset_random: bool = False  # each image's offset strength is uniform in 0 … offset
    perturbation: float = 0.0
    perturbation_random: bool = False  # each image's perturbation is uniform in 0 … perturbation

    def __post_init__(self) -> None:
        if min(self.offset, self.multires_iterations, self.perturbation) < 0:
            raise ValueError(f"strengths and iterations of noise cannot be negative: {self}")
        if self.multires_iterations and not 0 <= self.multires_discount <= 1:
            raise ValueError(f"the discount of multi-resolution noise is from 0 to 1, not {self.multires_discount:g}")


def sample_noise(latents: Tensor, seeds: Tensor | Sequence[int], settings: NoiseSettings) -> Tensor:
    """Draw noise for `latents` [B,C,h,w], in their dtype and on their device; an image's noise depends only on its own seed and latents.

    Drawn in float32 on the CPU, so that every device trains with the same noise. `seeds` [B] should be on the CPU.
    """
    seeds = _numbers(seeds)
    noise = _buffer(latents.shape, latents.device)
    for row, seed in zip(noise, seeds, strict=True):
        row.normal_(generator=_generator(seed, "noise"))
        if settings.multires_iterations:
            _add_pyramid(row, seed, settings.multires_iterations, settings.multires_discount)
            if not settings.offset:
                row.div_(row.std())
    noise = noise.to(latents.device, non_blocking=True)
    if settings.offset:
        noise += _offsets(latents, seeds, settings)
        if settings.multires_iterations:  # the pyramid is added after the offset, as in sd-scripts
            noise /= torch.stack([row.std() for row in noise]).view(-1, 1, 1, 1)
    return noise.to(latents.dtype)


def perturbed(noise: Tensor, seeds: Tensor | Sequence[int], settings: NoiseSettings) -> Tensor:
    """Return the noise for the model's input, while the target stays `noise` [B,C,h,w]: ε + γ·ξ with ξ ~ N(0, 1).

    So the model trains on inputs with small errors, as its own outputs have in sampling: y = √ā·x₀ + √(1−ā)·(ε + γ·ξ) (Ning et al. 2023,
    "Input Perturbation Reduces Exposure Bias in Diffusion Models", alg. 1).
    """
    if not settings.perturbation:
        return noise
    seeds = _numbers(seeds)
    strength = _strengths(settings.perturbation, settings.perturbation_random, seeds, "input perturbation strength", noise.device)
    return (noise + strength * gaussian(noise.shape, seeds, "input perturbation", noise.device)).to(noise.dtype)


def gaussian(shape: Sequence[int], seeds: Tensor | Sequence[int], purpose: str, device: torch.device) -> Tensor:
    """Draw N(0, 1), float32 of `shape` [B,…] on `device`; row i depends only on (seeds[i], purpose), not on the batch or the device."""
    drawn = _buffer(shape, device)
    for row, seed in zip(drawn, _numbers(seeds), strict=True):
        row.normal_(generator=_generator(seed, purpose))
    return drawn.to(device, non_blocking=True)


def _offsets(latents: Tensor, seeds: list[int], settings: NoiseSettings) -> Tensor:
    """Draw shifts of whole channels, offset · N(0, 1), float32 [B,C,1,1], so that the model learns brightness too.

    Guttenberg 2023, "Diffusion with offset noise". The adaptive offset is offset + scale·|mean of the latents over h, w|, per image and
    channel, at least 0.
    """
    shifts = gaussian((*latents.shape[:2], 1, 1), seeds, "noise offset", latents.device)
    offset = _strengths(settings.offset, settings.offset_random, seeds, "noise offset strength", latents.device)
    if not settings.adaptive_scale:
        return offset * shifts
    means = latents.float().mean(dim=(2, 3), keepdim=True).abs()
    return (offset + settings.adaptive_scale * means).clamp(min=0) * shifts


def _strengths(most: float, random: bool, seeds: list[int], purpose: str, device: torch.device) -> float | Tensor:
    """Return `most`, or [B,1,1,1] with a random share of it per image, uniform in 0 … 1 by (seed, purpose)."""
    if not random:
        return most
    shares = [python_rng(seed, purpose).random() for seed in seeds]
    return _sent([most * share for share in shares], torch.float32, device).view(-1, 1, 1, 1)


def _add_pyramid(noise: Tensor, seed: int, iterations: int, discount: float) -> None:
    """Add coarser and coarser noise to `noise` [C,h,w] in place (Whitaker 2023, "Multi-resolution noise"); its standard deviation exceeds
    1.

    Level i is drawn at 1/rⁱ of the full size, r uniform in 2 … 4 and drawn again for each level, enlarged bilinearly and weighted with
    discountⁱ. (As in sd-scripts; the article's code divides the size of the previous level, which leaves few levels.) Level 0 has full size
    and weight 1, and noise plus noise is √2 noise. The level that is one cell wide or high is the last.
    """
    generator, ratios = _generator(seed, "pyramid"), python_rng(seed, "pyramid ratio")
    channels, *full = noise.shape
    noise.mul_(2**0.5)
    for level in range(1, iterations):
        shrink = ratios.uniform(2, 4) ** level
        height, width = (max(1, int(side / shrink)) for side in full)
        coarse = torch.randn(1, channels, height, width, generator=generator)
        noise.add_(functional.interpolate(coarse, size=full, mode="bilinear")[0], alpha=discount**level)
        if 1 in (height, width):
            break


def _generator(seed: int, purpose: str) -> Generator:
    return Generator().manual_seed(fold(seed, purpose))


def _sent(numbers: list[int] | list[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Send the numbers [B] to the device without waiting for its pending work."""
    return torch.tensor(numbers, dtype=dtype, pin_memory=device.type == "cuda").to(device, non_blocking=True)


def _buffer(shape: Sequence[int], device: torch.device) -> Tensor:
    """CPU memory from which a CUDA device copies without making the CPU wait."""
    return torch.empty(tuple(shape), dtype=torch.float32, pin_memory=device.type == "cuda")


def _numbers(seeds: Tensor | Sequence[int]) -> list[int]:
    return seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
