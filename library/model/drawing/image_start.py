"""Where generation starts: pure noise, or an image with as much noise as its strength demands (SDEdit, Meng et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from library.model.drawing.samplers import Scheduler
from library.options.bounds import PIXELS_OF_A_LATENT


@dataclass(frozen=True, eq=False)
class ImageStart:
    """The start image [3,H,W] in −1…1, and the strength: 0 keeps the image, 1 generates all of it.

    `mask` [1,H,W] is 1 where the image is generated and 0 where it stays; None: generate everywhere.
    """

    pixels: Tensor
    strength: float
    mask: Tensor | None = None

    @property
    def small_mask(self) -> Tensor | None:
        """The mask [1,h,w] at the size of the latents: each takes the value of its first pixel (nearest neighbour)."""
        return None if self.mask is None else self.mask[:, ::PIXELS_OF_A_LATENT, ::PIXELS_OF_A_LATENT]


@dataclass(frozen=True, eq=False)
class Course:
    """The start latents [B,4,h,w], the timesteps, and a function that restores the unmasked part after each step."""

    latents: Tensor
    timesteps: Tensor
    protect: Callable[[Tensor, int], Tensor]  # (latents, index of the timestep) -> latents


def from_noise(scheduler: Scheduler, noise: Tensor) -> Course:
    """All timesteps, from noise [B,4,h,w] of standard deviation 1."""
    return Course(noise * scheduler.init_noise_sigma, scheduler.timesteps, lambda latents, place: latents)


def from_images(
    scheduler: Scheduler, steps: int, noise: Tensor, images: Tensor, starts: Sequence[ImageStart], protected: bool = True
) -> Course:
    """The last part of the `steps`, from the latents of images [B,4,h,w] with the noise of its first timestep.

    The strength is that of the first start; either all starts have a mask or none. Where the mask is 0, the latents after each step
    are those of the image with the remaining noise (Lugmayr et al. 2022, eq. 8), so at the end the image itself. Timesteps and noise are
    chosen as in diffusers' pipelines; at strength 1 a masked image starts from noise alone. Without `protected` nothing is restored: the
    U-Net of an inpainting model gets the part that stays as input.
    """
    strength = starts[0].strength
    begin = max(steps - int(steps * strength), 0) * scheduler.order
    timesteps = scheduler.timesteps[begin:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    masks = [start.small_mask for start in starts if start.small_mask is not None]
    if not len(timesteps):
        return Course(images, timesteps, lambda latents, place: latents)
    noisy = noise * scheduler.init_noise_sigma if masks and strength == 1 else scheduler.add_noise(images, noise, timesteps[:1])
    if not masks or not protected:
        return Course(noisy, timesteps, lambda latents, place: latents)
    mask = torch.stack(masks).to(images)

    def protect(latents: Tensor, place: int) -> Tensor:
        original = images
        if place < len(timesteps) - 1:
            original = scheduler.add_noise(images, noise, timesteps[place + 1 : place + 2])
        return (1 - mask) * original + mask * latents

    return Course(noisy, timesteps, protect)
