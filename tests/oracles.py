"""What diffusers' own pipeline makes of a saved model, to be compared with our sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

STEPS, GUIDANCE, SIDE = 2, 4.0, 64


def pixels(image: Any) -> np.ndarray:
    """An image as numbers that can be subtracted."""
    return np.asarray(image, dtype=np.int16)


def drawn_latents() -> torch.Tensor:
    """The noise that both samplers start from [1,4,8,8]."""
    return torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(5))


def our_image(model: Any, prompt: str, sampler: str = "ddim") -> np.ndarray:
    """The image of our own sampler."""
    from library.model.drawing.generate import GenerateSettings, generate

    settings = GenerateSettings(prompt, width=SIDE, height=SIDE, steps=STEPS, guidance=GUIDANCE, seed=1, sampler=sampler)
    return pixels(generate(model, settings, latents=drawn_latents()))


def pipeline_image(pipeline: Any, prompt: str, own_scheduler: bool = False) -> np.ndarray:
    """The image of diffusers' pipeline, its scheduler exchanged for DDIM unless it is to use its own."""
    from diffusers import DDIMScheduler

    if not own_scheduler:
        config = pipeline.scheduler.config
        pipeline.scheduler = DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipeline.set_progress_bar_config(disable=True)
    options = {"height": SIDE, "width": SIDE, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "latents": drawn_latents()}
    return pixels(pipeline(prompt, **options).images[0])


def pipeline_of(path: Path, configs: Path | None = None) -> Any:
    """diffusers' pipeline of a Diffusers folder, or of a single file with the configs of such a folder; nothing is fetched."""
    from diffusers import StableDiffusionPipeline

    if configs is None:
        return StableDiffusionPipeline.from_pretrained(path, local_files_only=True)
    return StableDiffusionPipeline.from_single_file(str(path), config=str(configs), local_files_only=True, safety_checker=None)
