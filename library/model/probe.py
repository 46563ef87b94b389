"""Find out whether a model predicts noise or velocity by running it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from library.model.bundle import StableDiffusion
from library.options.bounds import PIXELS_OF_A_LATENT

LAST, MIDDLE = 999, 500  # timesteps: almost pure noise, and the steep part of the schedule
SURE = 0.9  # correlation with the noise above which a model certainly predicts it
LIKELY = 0.7
SIDE = 8  # latents per side: an image of 64 px


@torch.no_grad()
def looks_like_epsilon(model: StableDiffusion) -> bool | None:
    """True for a model that predicts noise, False for one that seems to predict velocity, None for one that predicts neither.

    On pure noise at the last timestep ε is the input itself, while v = √ā·ε − √(1−ā)·x₀ contains only √ā ≈ 0.07 of it. Halfway both contain
    much of the noise: a model that correlates only there predicts velocity, and one that never correlates (random weights) is no model.
    """
    noise = torch.randn((1, 4, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).to(model.unet.device, model.unet.dtype)
    input_ids = model.tokenizer("")[0][None, :1].to(model.text_encoder.device)
    conditioning = model.with_sizes(model.encode(input_ids), (SIDE * PIXELS_OF_A_LATENT, SIDE * PIXELS_OF_A_LATENT))
    if model.inpaints:  # fill in everything; nothing is known
        known = torch.cat([torch.ones_like(noise[:, :1]), torch.zeros_like(noise)], dim=1)
        conditioning = replace(conditioning, known=known)
    training = model.unet.training
    model.unet.eval()
    try:
        if _correlation(model.predict(noise, LAST, conditioning), noise) > SURE:
            return True
        return False if _correlation(model.predict(noise, MIDDLE, conditioning), noise) > LIKELY else None
    finally:
        model.unet.train(training)


def _correlation(left: Tensor, right: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([left.float().flatten(), right.float().flatten()]))[0, 1])
