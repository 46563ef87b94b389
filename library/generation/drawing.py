"""The model for image generation, and generating several images at once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from library.console import log
from library.errors import UserError, coded
from library.generation.checks import NetworkChoice, network_choices
from library.generation.networks import AppliedNetwork, apply_network, settle_autocast
from library.generation.plan import Picture
from library.generation.words import teach_words
from library.model.attention import set_attention
from library.model.bundle import StableDiffusion
from library.model.drawing.generate import MAX_WINDOWS, GenerateSettings, generate_together, windows_of
from library.model.drawing.image_start import ImageStart
from library.model.load import load
from library.model.new_words import forget_words
from library.options.tool_groups.pictures import GenImg, PictureModelOptions, PictureWorkOptions
from library.surgery.device import usable_device
from library.training.memory.rehearsal import explained
from library.training.samples.start_images import own_size, read_mask, read_pixels

if TYPE_CHECKING:
    from PIL.Image import Image

_REMEDY = "generate fewer at once (--batch_size), smaller ones, or use half precision (--fp16, --bf16)"


@dataclass(frozen=True)
class Manner:
    """How all images are generated: device, precision (None: float32), and how prompts are read."""

    device: torch.device
    half: torch.dtype | None
    clip_skip: int | None
    windows: int

    def autocast(self) -> AbstractContextManager[object]:
        """The autocast context for the model."""
        return torch.autocast(self.device.type, self.half) if self.half is not None else contextlib.nullcontext()


@dataclass(frozen=True)
class Studio:
    """A model on its device, with its networks."""

    model: StableDiffusion
    manner: Manner
    networks: tuple[AppliedNetwork, ...] = ()
    words: tuple[str, ...] = ()  # that files have taught it

    @classmethod
    def load(cls, files: PictureModelOptions, work: PictureWorkOptions) -> Studio:
        """Load the model without networks. Raises UserError for unusable files or precision."""
        device, half = _device(work), torch.float16 if work.fp16 else torch.bfloat16 if work.bf16 else None
        log.info(f"loading {files.ckpt}")
        model = load(
            files.ckpt,
            files.v2,
            files.v_parameterization,
            files.vae,
            half,
            files.tokenizer_cache_dir,
            vae_dtype=torch.float32 if work.no_half_vae else None,
            option="--ckpt",
        )
        model.zero_terminal_snr = files.zero_terminal_snr
        set_attention(model.unet, model.vae, "xformers" if work.xformers else "sdpa")
        with explained(lambda: _REMEDY, "while moving the model to the device"):
            for part in (model.unet, *model.text_encoders):
                part.requires_grad_(False).to(device)
        clip_skip = model.family.usable_clip_skip(files.clip_skip)
        return cls(model, Manner(device, half, clip_skip, files.max_embeddings_multiples or MAX_WINDOWS))

    @classmethod
    def of(cls, options: GenImg) -> Studio:
        """Load the model with the networks and words of the command."""
        empty, networks = cls.load(options.model, options.work), options.networks
        words = [("--textual_inversion_embeddings", Path(file)) for file in networks.textual_inversion_embeddings]
        words += [("--XTI_embeddings", Path(file)) for file in networks.XTI_embeddings]
        return empty.with_networks(network_choices(networks), words)

    def with_networks(self, choices: Sequence[NetworkChoice], words: Sequence[tuple[str, Path]] = ()) -> Studio:
        """Replace all networks and words of the model by these networks, the words in their files, and `words` (option, file)."""
        for network in self.networks:
            network.remove()
        forget_words(self.model)
        taught = teach_words(self.model, words, [choice.file for choice in choices])
        networks = [apply_network(self.model, choice) for choice in choices]
        settle_autocast(self.model, networks)
        return Studio(self.model, self.manner, tuple(networks), tuple(taught))

    def batches(self, pictures: Sequence[Picture], size: int) -> Iterator[list[Picture]]:
        """Group neighbours that differ only in prompt, seed and image into batches of at most `size`."""
        batch: list[Picture] = []
        for picture in map(self._sized, pictures):
            if batch and (len(batch) == size or self._kind(batch[0]) != self._kind(picture)):
                yield batch
                batch = []
            batch.append(picture)
        if batch:
            yield batch

    def draw(self, batch: Sequence[Picture]) -> list[Image]:
        """Generate the images of a batch. Raises UserError if memory runs out."""
        for network, strength in zip(self.networks, batch[0].prompt.strengths, strict=True):
            network.set_strength(strength)
        settings = [self._settings(picture, with_image=True) for picture in batch]
        with explained(lambda: _REMEDY, "while generating images"), self.manner.autocast():
            return generate_together(self.model, settings, self.manner.device)

    def _kind(self, picture: Picture) -> tuple[object, ...]:
        prompt, windows = picture.prompt, windows_of(self.model, self._settings(picture))
        kind = (prompt.width, prompt.height, prompt.steps, prompt.guidance, prompt.strengths, prompt.denoising)
        return (*kind, picture.sampler, picture.image is None, picture.mask is None, windows)

    def _sized(self, picture: Picture) -> Picture:
        """Use the size of the start image if the prompt has no size."""
        prompt = picture.prompt
        if picture.image is None or (prompt.width and prompt.height):
            return picture
        width, height = own_size(picture.image)
        sized = dataclasses.replace(prompt, width=prompt.width or width, height=prompt.height or height)
        return dataclasses.replace(picture, prompt=sized)

    def _settings(self, picture: Picture, with_image: bool = False) -> GenerateSettings:
        prompt, start = picture.prompt, None
        if with_image and picture.image is not None:
            size = (prompt.width, prompt.height)
            mask = None if picture.mask is None else read_mask(picture.mask, size)
            start = ImageStart(read_pixels(picture.image, size), prompt.denoising or 0.0, mask)
        return GenerateSettings(
            prompt.prompt,
            prompt.negative,
            prompt.width,
            prompt.height,
            prompt.steps,
            prompt.guidance,
            picture.seed,
            picture.sampler,
            self.manner.clip_skip,
            self.manner.windows,
            start,
        )


def _device(work: PictureWorkOptions) -> torch.device:
    """Return the device. Raises UserError for a device that is missing or does not support the precision."""
    if work.device is not None:
        device = torch.device(usable_device(work.device))
    else:
        device = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    if work.fp16 and device.type == "cpu":
        raise UserError(coded("OPT-018", "--fp16: a CPU computes fp16 many times slower than fp32; use --bf16 or remove it"))
    if work.bf16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UserError(coded("OPT-018", f"--bf16: {torch.cuda.get_device_name(device)} has no bf16; use --fp16"))
    return device
