"""Images from prompts: classifier-free guidance over diffusers' schedulers, touching no random state and no mode of the model."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from library.model.bundle import REDUCTION, StableDiffusion
from library.model.samplers import Scheduler, make_scheduler
from library.model.text.conditioning import Conditioning

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_WINDOWS = 3  # of 75 tokens, whatever the training's limit


@dataclass(frozen=True)
class GenerateSettings:
    """One image to make; sides in pixels, rounded down to multiples of 8. `seed` None draws one."""

    prompt: str
    negative: str = ""
    width: int = 512
    height: int = 512
    steps: int = 30
    guidance: float = 7.5
    seed: int | None = None
    sampler: str = "ddim"
    clip_skip: int | None = None


@torch.no_grad()
def generate(
    model: StableDiffusion, settings: GenerateSettings, device: torch.device | str | None = None, latents: Tensor | None = None
) -> Image:
    """Make one image (Ho & Salimans 2022, eq. 6, for the guidance). `latents` [1,4,h,w], of deviation 1, replace the drawn ones.

    U-Net and text encoder must be on `device` (None: the U-Net's); the VAE is brought there for decoding and taken back. Runs under
    whatever autocast the caller has on; the sampler itself and the decoding count in float32.
    """
    device = torch.device(device) if device is not None else model.unet.device
    seed = settings.seed if settings.seed is not None else random.SystemRandom().getrandbits(31)
    generator = torch.Generator("cpu").manual_seed(seed)  # on the CPU: one seed, one picture, whatever the device
    with evaluating(model.unet, *model.text_encoders, model.vae):
        if latents is None:
            size = (1, 4, max(settings.height // REDUCTION, 1), max(settings.width // REDUCTION, 1))
            latents = torch.randn(size, generator=generator)
        conditioning = _conditioning(model, settings, device)
        latents = _denoise(model, settings, latents.to(device, torch.float32), conditioning, generator)
        return _to_image(decode(model, latents, device))


@contextlib.contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode, and each back in its own afterwards."""
    modes = {module: module.training for network in networks for module in network.modules()}
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def decode(model: StableDiffusion, latents: Tensor, device: torch.device) -> Tensor:
    """Images [B,3,H,W] in 0…1 of the U-Net's latents [B,4,h,w]."""
    home = model.vae.device
    model.vae.to(device)
    try:
        with torch.autocast(device.type, enabled=False):  # a VAE in float32 is so because half precision overflows in it
            images: Tensor = model.vae.decode((latents / model.scale_factor).to(model.vae.dtype)).sample
    finally:
        model.vae.to(home)
    return (images.float() / 2 + 0.5).clamp(0, 1)


def _conditioning(model: StableDiffusion, settings: GenerateSettings, device: torch.device) -> Conditioning:
    """Those of negative and positive prompt, weights applied, both of as many windows as the longer one needs."""
    prompts = (settings.negative, settings.prompt)
    reader = model.tokenizer.with_settings(windows=1, weighted=True)
    windows = min(max(reader.windows_needed(prompt) for prompt in prompts), MAX_WINDOWS)
    reader = reader.with_settings(windows=windows, weighted=True)
    tokens = [reader(prompt) for prompt in prompts]
    input_ids = torch.stack([ids for ids, _ in tokens]).to(device)
    weights = torch.stack([factors for _, factors in tokens if factors is not None]).to(device)
    plain = bool((weights == 1).all())
    read = model.encode(input_ids, None if plain else weights, settings.clip_skip)
    return model.with_sizes(read, (settings.width, settings.height))


def _denoise(
    model: StableDiffusion, settings: GenerateSettings, latents: Tensor, conditioning: Conditioning, generator: torch.Generator
) -> Tensor:
    scheduler = make_scheduler(settings.sampler, model.prediction, model.zero_terminal_snr)
    scheduler.set_timesteps(settings.steps, device=latents.device)
    step = _step_function(scheduler, generator)
    latents = latents * scheduler.init_noise_sigma
    guided = settings.guidance != 1
    conditioning = conditioning if guided else conditioning[1:]
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(torch.cat([latents] * len(conditioning)), timestep)
        predicted = model.predict(scaled, timestep, conditioning).float()
        if guided:
            without, prompted = predicted.chunk(2)
            predicted = without + settings.guidance * (prompted - without)
        latents = step(predicted, timestep, latents)
    return latents


def _step_function(scheduler: Scheduler, generator: torch.Generator) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The scheduler's step, drawing what noise it needs from `generator`."""
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    return lambda predicted, timestep, latents: scheduler.step(predicted, timestep, latents, **extra).prev_sample


def _to_image(images: Tensor) -> Image:
    from PIL import Image

    pixels = (images[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(pixels)
