"""Images from prompts: classifier-free guidance with diffusers' schedulers; changes no random state and no mode of the model."""

from __future__ import annotations

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from library.model.bundle import StableDiffusion, moments
from library.model.drawing.image_start import Course, ImageStart, from_images, from_noise
from library.model.drawing.samplers import Scheduler, make_scheduler
from library.model.inpainting import known_region, masked
from library.model.text.conditioning import Conditioning
from library.options.bounds import PIXELS_OF_A_LATENT

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_WINDOWS = 3  # of 75 tokens, with any --max_token_length


@dataclass(frozen=True)
class GenerateSettings:
    """One image to generate; sides in pixels, rounded down to multiples of 8. `seed` None chooses one at random."""

    prompt: str
    negative: str = ""
    width: int = 512
    height: int = 512
    steps: int = 30
    guidance: float = 7.5
    seed: int | None = None
    sampler: str = "ddim"
    clip_skip: int | None = None
    windows: int = MAX_WINDOWS  # of each prompt, at most
    start: ImageStart | None = None  # None: start from pure noise

    @property
    def latent_size(self) -> tuple[int, int, int, int]:
        """The shape of the U-Net's latents, [1,4,h,w]."""
        return (1, 4, max(self.height // PIXELS_OF_A_LATENT, 1), max(self.width // PIXELS_OF_A_LATENT, 1))


def generate(
    model: StableDiffusion, settings: GenerateSettings, device: torch.device | str | None = None, latents: Tensor | None = None
) -> Image:
    """Generate one image (guidance: Ho & Salimans 2022, eq. 6). `latents` [1,4,h,w], of standard deviation 1, replace the random ones.

    U-Net and text encoder must be on `device` (None: the U-Net's); the VAE is moved there for decoding and moved back. Runs under the
    caller's autocast; the sampler and the decoding compute in float32.
    """
    return generate_together(model, (settings,), device, latents)[0]


@torch.no_grad()
def generate_together(
    model: StableDiffusion,
    batch: Sequence[GenerateSettings],
    device: torch.device | str | None = None,
    latents: Tensor | None = None,
) -> list[Image]:
    """As `generate`, for several images at once: each has its own prompts, seed and start image; all else is taken from the first.

    Each image has a separate generator, so it differs only by rounding from the same image generated alone, if all prompts need the same
    number of windows (`windows_of`).
    """
    first = batch[0]
    device = torch.device(device) if device is not None else model.unet.device
    seeds = [random.SystemRandom().getrandbits(31) if settings.seed is None else settings.seed for settings in batch]
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]  # on the CPU: the same image on every device
    with evaluating(model.unet, *model.text_encoders, model.vae):
        starts = [one.start for one in batch if one.start is not None]
        needed = bool(starts) and not (model.inpaints and starts[0].mask is not None and starts[0].strength == 1)  # else noise is enough
        images = _encoded(model, [start.pixels for start in starts], device, generators) if needed else None
        if latents is None:
            latents = torch.cat([torch.randn(first.latent_size, generator=generator) for generator in generators])
        conditioning = _conditioning(model, batch, device)
        if model.inpaints:
            conditioning = replace(conditioning, known=_known(model, batch, device, generators))
        scheduler = make_scheduler(first.sampler, model.prediction, model.zero_terminal_snr)
        scheduler.set_timesteps(first.steps, device=device)
        noise = latents.to(device, torch.float32)
        if images is None:
            course = from_noise(scheduler, noise)
        else:
            course = from_images(scheduler, first.steps, noise, images, starts, protected=not model.inpaints)
        latents = _denoise(model, first.guidance, scheduler, course, conditioning, generators)
        return [_to_image(decode(model, one[None], device)) for one in latents]


def windows_of(model: StableDiffusion, settings: GenerateSettings) -> int:
    """Return how many windows of 75 tokens the longer of its two prompts needs."""
    reader = model.tokenizer.with_settings(windows=1, weighted=True)
    return min(max(reader.windows_needed(prompt) for prompt in (settings.negative, settings.prompt)), settings.windows)


@contextlib.contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Put all modules in evaluation mode, and restore the mode of each afterwards."""
    modes = {module: module.training for network in networks for module in network.modules()}
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def decode(model: StableDiffusion, latents: Tensor, device: torch.device) -> Tensor:
    """Decode the U-Net's latents [B,4,h,w] to images [B,3,H,W] in 0…1."""
    home = model.vae.device
    model.vae.to(device)
    try:
        with torch.autocast(device.type, enabled=False):  # a VAE is in float32 because it overflows in half precision
            images: Tensor = model.vae.decode((latents / model.scale_factor).to(model.vae.dtype)).sample
    finally:
        model.vae.to(home)
    return (images.float() / 2 + 0.5).clamp(0, 1)


def _encoded(model: StableDiffusion, images: Sequence[Tensor], device: torch.device, generators: Sequence[torch.Generator]) -> Tensor:
    """Encode images [3,H,W] in −1…1 to the U-Net's latents [B,4,h,w], each a sample of the VAE's distribution."""
    home = model.vae.device
    model.vae.to(device)
    try:
        with torch.autocast(device.type, enabled=False):
            of_each = [moments(model.vae, image[None].to(device)) for image in images]
    finally:
        model.vae.to(home)
    drawn = []
    for (mean, logvar), generator in zip((both.chunk(2, dim=1) for both in of_each), generators, strict=True):
        drawn.append(mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=generator).to(device))
    return torch.cat(drawn) * model.scale_factor


def _known(
    model: StableDiffusion, batch: Sequence[GenerateSettings], device: torch.device, generators: Sequence[torch.Generator]
) -> Tensor:
    """Return the known region [2B,5,h,w] of an inpainting model, for both halves of guidance; without a mask everything is filled in."""
    _, _, height, width = batch[0].latent_size
    pixels, masks = [], []
    for start in (one.start for one in batch):
        whole = torch.ones(1, height * PIXELS_OF_A_LATENT, width * PIXELS_OF_A_LATENT)
        masks.append(whole if start is None or start.mask is None else start.mask.to(whole))
        pixels.append(masked(torch.zeros(3, *whole.shape[1:]) if start is None else start.pixels, masks[-1]))
    known = known_region(torch.stack(masks).to(device), _encoded(model, pixels, device, generators))
    return torch.cat([known, known])


def _conditioning(model: StableDiffusion, batch: Sequence[GenerateSettings], device: torch.device) -> Conditioning:
    """The conditionings of all negative prompts and then of all prompts, weighted, with as many windows as the longest prompt needs."""
    first, prompts = batch[0], [*(one.negative for one in batch), *(one.prompt for one in batch)]
    windows = max(windows_of(model, one) for one in batch)
    reader = model.tokenizer.with_settings(windows=windows, weighted=True)
    tokens = [reader(prompt) for prompt in prompts]
    input_ids = torch.stack([ids for ids, _ in tokens]).to(device)
    weights = torch.stack([factors for _, factors in tokens if factors is not None]).to(device)
    plain = bool((weights == 1).all())
    read = model.encode(input_ids, None if plain else weights, first.clip_skip)
    return model.with_sizes(read, (first.width, first.height))


def _denoise(
    model: StableDiffusion,
    guidance: float,
    scheduler: Scheduler,
    course: Course,
    conditioning: Conditioning,
    generators: Sequence[torch.Generator],
) -> Tensor:
    step = _step_function(scheduler, generators)
    guided = guidance != 1
    conditioning = conditioning if guided else conditioning[len(generators) :]
    latents = course.latents
    for place, timestep in enumerate(course.timesteps):
        scaled = scheduler.scale_model_input(torch.cat([latents] * (2 if guided else 1)), timestep)
        predicted = model.predict(scaled, timestep, conditioning).float()
        if guided:
            without, prompted = predicted.chunk(2)
            predicted = without + guidance * (prompted - without)
        latents = course.protect(step(predicted, timestep, latents), place)
    return latents


def _step_function(scheduler: Scheduler, generators: Sequence[torch.Generator]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The scheduler's step, with the noise for each image from its generator."""
    extra = {"generator": list(generators)} if "generator" in inspect.signature(scheduler.step).parameters else {}
    return lambda predicted, timestep, latents: scheduler.step(predicted, timestep, latents, **extra).prev_sample


def _to_image(images: Tensor) -> Image:
    from PIL import Image

    pixels = (images[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(pixels)
