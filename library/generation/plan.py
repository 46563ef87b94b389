"""The images that a command requests, each with its seed; known before the model loads."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from library.errors import UserError, coded
from library.generation.checks import check_prompts
from library.generation.prompts import SIDE, prompts_of
from library.options.tool_groups.pictures import GenImg
from library.pictures.prompt_files import SamplePrompt
from library.pictures.prompt_options import MAX_SEED, PICTURES

_STRENGTH = 0.8  # of img2img
_STRENGTH_OF_INPAINTING = 1.0  # of an inpainting model with a mask, which gets the unmasked part as input


@dataclass(frozen=True)
class Picture:
    """One image: `number` counts from 0; `prompt` is complete, except for sides of 0 with an `image`: those of that image."""

    number: int
    prompt: SamplePrompt
    seed: int
    image: Path | None = None
    mask: Path | None = None

    @property
    def sampler(self) -> str:
        """The sampler that its prompt or the command names."""
        assert self.prompt.sampler is not None
        return self.prompt.sampler


def planned(options: GenImg, inpaints: bool = False) -> list[Picture]:
    """Return all images in the order of generation; `inpaints`: by an inpainting model. Raises UserError for errors in the prompts."""
    prompts = _prompts(options, _STRENGTH_OF_INPAINTING if inpaints and options.pictures.mask_path else _STRENGTH)
    if not prompts:
        origin = "--from_file" if options.prompts.from_file else "--prompt"
        raise UserError(coded("CFG-013", f"{origin}: has no prompt; write one, such as a dog"))
    base = random.SystemRandom().getrandbits(31) if options.prompts.seed is None else options.prompts.seed
    return list(_each(options, prompts, base))


def _prompts(options: GenImg, usual: float) -> Sequence[SamplePrompt]:
    prompt_options, pictures = options.prompts, options.pictures
    strengths = options.networks.network_mul or (1.0,) * len(options.networks.network_weights)
    prompts = prompts_of(prompt_options, pictures, PICTURES, 0 if pictures.image_path else SIDE)
    check_prompts(prompts, len(strengths), bool(pictures.image_path))
    rate = (usual if pictures.strength is None else pictures.strength) if pictures.image_path else None
    return [
        replace(one, strengths=one.strengths or strengths, denoising=rate if one.denoising is None else one.denoising) for one in prompts
    ]


def _each(options: GenImg, prompts: Sequence[SamplePrompt], base: int) -> Iterator[Picture]:
    """Yield the images. A seed follows from the image's position: with --d from the prompt's seed, else from --seed and the image's
    number."""
    each, images, masks, number = options.prompts.images_per_prompt, options.pictures.image_path, options.pictures.mask_path, 0
    for turn in range(options.prompts.n_iter):
        for place, prompt in enumerate(prompts):
            for one in range(each):
                if prompt.seed is not None or options.prompts.iter_same_seed:
                    seed = (base if prompt.seed is None else prompt.seed) + turn * each + one
                else:
                    seed = base + number
                image = Path(images[place % len(images)]) if images else None
                mask = Path(masks[place % len(images) % len(masks)]) if masks else None
                yield Picture(number, prompt, seed % (MAX_SEED + 1), image, mask)
                number += 1
