"""One training step as one module: from a batch of images and captions to the loss of each image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from library.data.batch import Batch
from library.data.latent_cache import draw_latents
from library.diffusion.noise import NoiseSettings, sample_noise, sample_timesteps
from library.diffusion.objective import Objective
from library.diffusion.schedule import NoiseSchedule
from library.training.method import Method


class DiffusionTask(nn.Module):
    """Holds all that is trained, so that `accelerator.prepare(task, optimizer)` hands it whole to DDP.

    (Wrapping only a LoRA network would do nothing: it runs inside the layers it patches, its own forward is never called.)
    The VAE is not registered: it is never trained, and with a latent cache it is not even on the device.
    """

    def __init__(
        self, model: Any, method: Method, schedule: NoiseSchedule, objective: Objective, noise: NoiseSettings, clip_skip: int | None
    ):
        super().__init__()
        self.unet: nn.Module = model.unet
        self.text_encoder: nn.Module = model.text_encoder
        self.trained = nn.ModuleList(method.modules())
        self._model = [model]  # a list, so that nn.Module does not look inside
        self._method = method
        self.schedule, self.objective, self.noise, self.clip_skip = schedule, objective, noise, clip_skip

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Batch of `library.data.batch` on the device, update number -> (weighted mean loss, loss per image [B])."""
        model = self._model[0]
        latents = self._latents(batch)  # [B,4,h,w]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._method.trains_text_encoder(step)):
            context = model.encode_text(batch.input_ids, batch.token_weights, self.clip_skip)  # [B,T,D]
        noise = sample_noise(latents, batch.seeds, self.noise)
        t = sample_timesteps(batch.seeds, self.schedule)  # [B]
        noisy = self.schedule.add_noise(latents, noise, t)
        # Under autocast the U-Net takes float32; a U-Net kept in half precision without autocast needs its own dtype.
        predicted = self.unet(noisy.to(self.unet.dtype), t, context.to(self.unet.dtype)).sample
        target = self.schedule.target(model.prediction, latents, noise, t)
        per_image = self.objective(predicted.float(), target.float(), t)
        return (per_image * batch.loss_weights).mean(), per_image.detach()

    def _latents(self, batch: Batch) -> Tensor:
        """Latents [B,4,h,w], float32, scaled to unit deviation: the cached draw, or the same draw from the VAE's output."""
        model = self._model[0]
        if batch.latents is not None:
            return batch.latents.float() * model.scale_factor
        return draw_latents(model.moments(batch.images), batch.seeds) * model.scale_factor
