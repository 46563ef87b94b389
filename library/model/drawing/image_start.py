"""Where drawing begins: in pure noise, or in an image under as much noise as its strength asks for (SDEdit, Meng et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from library.model.drawing.samplers import Scheduler
from library.options.bounds import PIXELS_OF_A_LATENT


@dataclass(frozen=True, eq=False)
class ImageStart:
    """The image [3,H,W] in −1…1 to begin with, and how much of the way is drawn anew: 0 keeps it, 1 draws all.

    `mask` [1,H,W] is 1 where the image is drawn anew and 0 where it stays; None: everywhere.
    """

    pixels: Tensor
    strength: float
    mask: Tensor | None = None

    @property
    def small_mask(self) -> Tensor | None:
        """The mask [1,h,w] of the latents: each has that of its first pixel, the nearest one."""
        return None if self.mask is None else self.mask[:, ::PIXELS_OF_A_LATENT, ::PIXELS_OF_A_LATENT]


@dataclass(frozen=True, eq=False)
class Course:
    """The latents [B,4,h,w] that drawing begins with, its timesteps, and what is put back behind the step at each of them."""

    latents: Tensor
    timesteps: Tensor
    protect: Callable[[Tensor, int], Tensor]  # (latents, place of the timestep) -> latents


def from_noise(scheduler: Scheduler, noise: Tensor) -> Course:
    """All timesteps, beginning with noise [B,4,h,w] of deviation 1."""
    return Course(noise * scheduler.init_noise_sigma, scheduler.timesteps, lambda latents, place: latents)


def from_images(
    scheduler: Scheduler, steps: int, noise: Tensor, images: Tensor, starts: Sequence[ImageStart], protected: bool = True
) -> Course:
    """The last part of the `steps`, beginning with the latents of images [B,4,h,w] under the noise of the first of them.

    Of the first start's strength; all have a mask or none has. Where a mask is 0, the latents are those of the image after each step,
    under the noise that is left then (Lugmayr et al. 2022, eq. 8): so at the end the image itself. Timesteps and noise are chosen as
    diffusers' pipelines do; at strength 1 a masked picture begins with noise alone. Without `protected` nothing is put back: the U-Net
    of an inpainting model sees itself what has to stay.
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
        kept = images
        if place < len(timesteps) - 1:
            kept = scheduler.add_noise(images, noise, timesteps[place + 1 : place + 2])
        return (1 - mask) * kept + mask * latents

    return Course(noisy, timesteps, protect)
