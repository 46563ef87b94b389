"""One training step as one module: from a batch of images and captions to the loss of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from library.data.loading.batch import Batch
from library.data.pixels.latent_cache import draw_latents
from library.diffusion.noise import NoiseSettings, perturbed, sample_noise
from library.diffusion.objective import Objective
from library.diffusion.schedule import NoiseSchedule
from library.diffusion.timesteps import TimestepDraws, drawn_timesteps
from library.method import Method
from library.model.bundle import StableDiffusion
from library.model.text.conditioning import Conditioning
from library.options.bounds import PIXELS_OF_A_LATENT
from library.seeds import fold
from library.training.base_target import BaseTarget, masks_of
from library.training.caches.text_cache import TextCache
from library.training.known_region import known_of


@dataclass(frozen=True)
class NoiseAndLoss:
    """How images become noisy and what the U-Net must predict; `timesteps` are the trained ones (None: all of the schedule)."""

    schedule: NoiseSchedule
    objective: Objective
    noise: NoiseSettings
    timesteps: range | None = None
    draws: TimestepDraws | None = None  # None: all of `timesteps` equally
    base_target: BaseTarget | None = None  # for images with the base model's prediction as target, if any


class DiffusionTask(nn.Module):
    """Contains all that is trained, so that `accelerator.prepare(task, optimizer)` passes it to DDP as a whole.

    Wrapping only a LoRA network would do nothing: it runs inside the layers it patches, and its own forward is never called. The VAE is not
    registered: it is never trained, and with a latent cache it is not even on the device.
    """

    def __init__(
        self,
        model: StableDiffusion,
        method: Method,
        noise_and_loss: NoiseAndLoss,
        clip_skip: int | None = None,
        texts: TextCache | None = None,
    ) -> None:
        """`texts` encodes captions while the text encoder is not trained; without it each batch is encoded as a whole."""
        super().__init__()
        self.unet: nn.Module = model.unet
        self.text_encoders = nn.ModuleList(model.text_encoders)
        self.trained = nn.ModuleList(method.modules())
        # Every process reads the frozen weights from the same file, so DDP does not have to send them (and gloo cannot send float8).
        frozen = [name for name, parameter in self.named_parameters() if not parameter.requires_grad]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, frozen)  # type: ignore[no-untyped-call]  # torch gives it no types
        self._model = [model]  # a list, so that nn.Module does not register it
        self._method = method
        self.schedule, self.objective, self.noise = noise_and_loss.schedule, noise_and_loss.objective, noise_and_loss.noise
        asked = noise_and_loss.timesteps
        self.timesteps = range(len(self.schedule)) if asked is None else asked  # the trained ones
        self.base_target = noise_and_loss.base_target
        self.draws = noise_and_loss.draws or TimestepDraws(self.timesteps)
        self.clip_skip = clip_skip
        self.rows: Mapping[tuple[int, int], int] = {}  # for a compiled U-Net: its batch size, by (width, height) of latents
        self._texts = texts
        self._set_multiplier: Callable[[float], None] = getattr(method, "set_multiplier", _not_asked)  # networks only

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Take a batch on the device and the update number; returns (weighted mean loss, loss per image [B])."""
        self._set_multiplier(batch.network_multiplier)  # stays set until the update is done: backward may recompute the forward pass
        captions = self._with_known(batch, self._captions(batch, self._method.trains_text_encoder(step)))
        t = self.drawn_timesteps(batch)
        per_image = self._losses(batch, self.latents(batch), captions, t, batch.seeds)
        return (per_image * batch.loss_weights).mean(), per_image.detach()

    def drawn_timesteps(self, batch: Batch) -> Tensor:
        """Return the timestep [B] of each image, a function of its seed and its place in the update: every call returns the same."""
        return drawn_timesteps(self.draws, batch.seeds, batch.strata, self.schedule.alphas_cumprod.device)

    def timestep_numbers(self, batch: Batch) -> list[int]:
        """Return the same as plain numbers, without waiting for the device."""
        return self.draws.numbers(batch.seeds, batch.strata)

    def evaluate(self, batch: Batch, rounds: int) -> Tensor:
        """Return the loss of each image without gradients, float32 [B]: the mean over `rounds` timesteps, spread over the trained ones.

        Timesteps and noise are functions of the image's seed, so the same weights always give the same loss.
        """
        self._set_multiplier(batch.network_multiplier)
        with torch.no_grad():
            latents = self.latents(batch)
            # not the cached ones: the text encoder may be trained between two evaluations
            captions = self._with_known(batch, self._encoded(batch))
            losses = [self._losses(batch, latents, captions, *self._place(batch, number, rounds)) for number in range(rounds)]
            self._set_multiplier(1.0)
            return torch.stack(losses).mean(dim=0)

    def _captions(self, batch: Batch, trained: bool) -> Conditioning:
        """Encode the captions, with gradients if the text encoder is trained."""
        if self._texts is not None and not trained:
            return self._texts(batch.captions, batch.input_ids, batch.token_weights)
        with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
            return self._encoded(batch)

    def _encoded(self, batch: Batch) -> Conditioning:
        return self._model[0].encode(batch.input_ids, batch.token_weights, self.clip_skip)

    def _with_known(self, batch: Batch, captions: Conditioning) -> Conditioning:
        """Add the masks and masked latents for an inpainting model."""
        known = known_of(self._model[0], batch)
        return captions if known is None else replace(captions, known=known)

    def _losses(self, batch: Batch, latents: Tensor, captions: Conditioning, t: Tensor, seeds: Tensor) -> Tensor:
        """Return the loss of each image [B] at timesteps `t` [B], with noise from `seeds` [B]."""
        model, (height, width) = self._model[0], latents.shape[-2:]
        noise = sample_noise(latents, seeds, self.noise)
        noisy = self.schedule.add_noise(latents, perturbed(noise, seeds, self.noise), t)
        captions = model.with_sizes(captions, (width * PIXELS_OF_A_LATENT, height * PIXELS_OF_A_LATENT), batch.sizes)
        predicted = self._predict(model, noisy, t, captions)
        target = self.schedule.target(model.prediction, latents, noise, t)
        if self.base_target is not None:  # after the other pass: autocast must first cache its casts with gradients
            target = self.base_target.put(target, batch, self._predict, noisy, t, captions)
        return self.objective(predicted.float(), target.float(), t, masks_of(batch))

    def _predict(self, model: StableDiffusion, noisy: Tensor, t: Tensor, captions: Conditioning) -> Tensor:
        """Predict [B,4,h,w]; pads the batch to the batch size of a compiled U-Net."""
        height, width = noisy.shape[-2:]
        missing = max(0, self.rows.get((width, height), 0) - len(noisy))
        if not missing:
            return model.predict(noisy, t, captions)
        # repeats the last image; its outputs are dropped, so its gradient is 0
        filled = captions.map(lambda tensor: _filled(tensor, missing))
        return model.predict(_filled(noisy, missing), _filled(t, missing), filled)[: len(noisy)]

    def _place(self, batch: Batch, number: int, rounds: int) -> tuple[Tensor, Tensor]:
        """Return timesteps and seeds [B] of one round: each image has its own timestep inside the round's share."""
        seeds = [fold(seed, "validation", number) for seed in batch.seeds.tolist()]
        count = len(self.timesteps)
        first, last = number * count // rounds, (number + 1) * count // rounds
        places = [self.timesteps[first + fold(seed, "timestep") % max(1, last - first)] for seed in seeds]
        return torch.tensor(places, dtype=torch.int64).to(self.schedule.alphas_cumprod.device), torch.tensor(seeds, dtype=torch.int64)

    def latents(self, batch: Batch) -> Tensor:
        """Return latents [B,4,h,w], float32, scaled to unit deviation: sampled with the image's seed from the cache or the VAE's output."""
        model = self._model[0]
        if batch.latents is not None:
            return batch.latents.float() * model.scale_factor
        assert batch.images is not None
        return draw_latents(model.moments(batch.images), batch.seeds) * model.scale_factor


def _filled(tensor: Tensor, rows: int) -> Tensor:
    return torch.cat([tensor, tensor[-1:].expand(rows, *tensor.shape[1:])])


def _not_asked(multiplier: float) -> None:
    """A method without a network has no strength to set."""
