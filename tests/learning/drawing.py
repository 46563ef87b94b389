"""Draws one prompt for many seeds at once, and counts in how many pictures the judge sees what it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors import safe_open

from library.model.bundle import StableDiffusion
from library.model.drawing.generate import decode, evaluating
from library.model.drawing.samplers import make_scheduler
from library.model.files.embedding_files import read_vectors
from library.model.load import load
from library.model.new_words import add_words, cross_attentions, side_by_side
from networks.lora import create_network_from_weights
from tests.judge import Seen, judge
from tests.learning.lessons import OTHER_WORD, WORD

SIDE, STEPS, GUIDANCE = 64, 20, 2.5
SEEDS = tuple(range(20))


def with_lora(model: Path, lora: Path | None, multiplier: float = 1.0) -> StableDiffusion:
    """The model of a file with a LoRA put onto it; None for the model as it is."""
    loaded = load(model)
    if lora is not None:
        network, _ = create_network_from_weights(multiplier, lora, loaded.vae, loaded.text_encoder, loaded.unet, for_inference=True)
        network.apply_to(loaded.text_encoder, loaded.unet)
    return loaded


def with_lesson(model: Path, file: Path | None, multiplier: float = 1.0) -> StableDiffusion:
    """The model with what a lesson wrote: a LoRA and words are put onto it, a whole model takes its place; None for it as it is."""
    if file is None:
        return load(model)
    with safe_open(file, "pt") as tensors:
        names = set(tensors.keys())
    if any(name.startswith("model.diffusion_model.") for name in names):
        return load(file)
    is_lora = any(name.startswith("lora_") for name in names)
    loaded = with_lora(model, file, multiplier) if is_lora else load(model)
    layers = () if is_lora or "emb_params" in names else tuple(cross_attentions(loaded.unet))
    files = {WORD: file.with_name("lesson-zxc.safetensors"), OTHER_WORD: file.with_name("lesson-qvb.safetensors")}
    words = {word: path for word, path in files.items() if path.exists()} or ({} if is_lora else {WORD: file})
    width = loaded.unet.config.cross_attention_dim
    if words:
        add_words(loaded, *side_by_side({word: read_vectors(path, layers, width, "the lesson") for word, path in words.items()}))
    return loaded


def draw(model: StableDiffusion, prompt: str, seeds: Sequence[int] = SEEDS) -> list[Image.Image]:
    """One picture a seed."""
    return draw_each(model, [prompt] * len(seeds), seeds)


@torch.no_grad()
def draw_each(model: StableDiffusion, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
    """One picture for each prompt and its seed, by DDIM; the same that `library.model.drawing.generate` draws one by one."""
    with evaluating(model.unet, model.text_encoder, model.vae):
        context = model.encode(torch.stack([model.tokenizer(text)[0] for text in ("", *prompts)])).context
        context = torch.cat([context[:1].expand(len(prompts), -1, -1), context[1:]])
        noise = [torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        scheduler = make_scheduler("ddim", model.prediction)
        scheduler.set_timesteps(STEPS)
        latents = torch.cat(noise)
        for timestep in scheduler.timesteps:
            without, prompted = model.unet(torch.cat([latents, latents]), timestep, context).sample.chunk(2)
            latents = scheduler.step(without + GUIDANCE * (prompted - without), timestep, latents).prev_sample
        images = (decode(model, latents, latents.device) * 255).round().to(torch.uint8)
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def share(pictures: Sequence[Image.Image], wanted: Callable[[Seen], bool]) -> float:
    """In which share of the pictures the judge sees what is wanted."""
    return sum(wanted(judge(picture)) for picture in pictures) / len(pictures)
