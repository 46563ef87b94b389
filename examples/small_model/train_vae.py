"""Trains the small model's autoencoder: Stable Diffusion's layout (f8, 4 channels, 32-group norms), 64 channels wide."""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from examples.small_model.scenes import SIZES, Scene, draw, free_scene, random_scene
from library.console import progress
from library.seeds import fold

SIDE = 64
SCALE_FACTOR = 0.18215  # what every Stable Diffusion program multiplies latents with, so the latents' deviation must be its inverse
WIDTHS = (64, 64, 64, 64)
CROP = 32  # pixels


def make_vae():
    """An untrained `AutoencoderKL` of the small model's shape."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
        norm_num_groups=32,
        scaling_factor=SCALE_FACTOR,
        sample_size=SIDE,
    )


def pictures(rng: random.Random, count: int, small: float = 0.0) -> Tensor:
    """[count,3,SIDE,SIDE] in −1..1: half named scenes, half free ones, so that unseen colours and rims can be carried too.

    A share `small` of them are small stars and crosses instead, whose arms are hardest to carry.
    """
    drawn = [draw(_small_scene(rng) if rng.random() < small else _any_scene(rng), SIDE) for _ in range(count)]
    pixels = np.stack([np.asarray(picture) for picture in drawn])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _any_scene(rng: random.Random) -> Scene | list[Scene]:
    return random_scene(rng).scene if rng.random() < 0.5 else free_scene(rng)


def _small_scene(rng: random.Random) -> Scene:
    """A small star or cross of named colours."""
    scene = random_scene(rng).scene
    radius = rng.uniform(*SIZES["small"])
    return replace(scene, shape=rng.choice(["star", "cross"]), radius=radius)


@dataclass(frozen=True)
class Round:
    """One pass of the learning rate from nothing to its peak and down again."""

    steps: int
    batch: int
    learning_rate: float
    kl_weight: float
    contrast: float  # how much more an error next to an edge counts, for an edge from black to white
    cropped: float = 0.8  # share of the steps that see parts of pictures, a quarter of the work
    decoder_only: bool = False
    small: float = 0.0  # share of the pictures that are small stars and crosses


# The first round finds colours and outlines; the second, with less pull towards a unit Gaussian, finds corners and rims. The third leaves
# the latents as they are, so that the U-Net may learn them meanwhile, and sharpens what the decoder makes of them; so does the fourth,
# which gives small shapes their arms back.
ROUNDS = (
    Round(2000, 32, 2e-3, 1e-3, 0.0),
    Round(5000, 16, 1e-3, 3e-4, 4.0),
    Round(1500, 12, 7e-4, 0.0, 4.0, cropped=0.3, decoder_only=True),
    Round(2000, 16, 7e-4, 0.0, 4.0, cropped=0.5, decoder_only=True, small=0.5),
)


def train_vae(folder: Path, share: float = 1.0, seed: int = 0) -> tuple[torch.nn.Module, dict]:
    """Train all rounds with `share` of their steps, each kept in `folder`; rounds found there with the same figures are not repeated.

    Returns the autoencoder, its latents scaled to a deviation of 1 / SCALE_FACTOR, and the figures of the rounds.
    """
    from diffusers import AutoencoderKL

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    vae, told = make_vae(), []
    for number, planned in enumerate(ROUNDS, 1):
        kept, figures = folder / f"round{number}", folder / f"round{number}.json"
        this = replace(planned, steps=max(2, round(planned.steps * share)))
        wanted = {"round": number, "seed": seed, **asdict(this)}
        if figures.exists() and wanted.items() <= (found := json.loads(figures.read_text(encoding="utf-8"))).items():
            vae = AutoencoderKL.from_pretrained(kept)
            told.append(found)
            continue
        told.append(wanted | train_round(vae, this, fold(seed, number)))
        vae.save_pretrained(kept)
        figures.write_text(json.dumps(told[-1], indent=1), encoding="utf-8")
    return vae, {"rounds": told, "seconds": sum(one["seconds"] for one in told)}


def train_round(vae: torch.nn.Module, this: Round, seed: int) -> dict[str, float]:
    """Train `vae` in place on freshly drawn pictures and scale its latents; returns seconds, last loss and `measure`'s figures."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    vae.train()
    vae.requires_grad_(True)
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(not this.decoder_only)
    trained = [weight for weight in vae.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=this.learning_rate, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=this.learning_rate, total_steps=this.steps, pct_start=0.1)
    started, losses = time.time(), []
    for step in progress(range(this.steps), label="autoencoder", unit="step"):
        images = pictures(rng, this.batch, this.small)
        if step < this.cropped * this.steps:
            left, top = rng.randint(0, SIDE - CROP), rng.randint(0, SIDE - CROP)
            images = images[:, :, top : top + CROP, left : left + CROP].contiguous()
        with torch.autocast("cpu", torch.bfloat16):
            distribution = vae.encode(images).latent_dist
            decoded = vae.decode(distribution.sample()).sample
        loss, kl = loss_of(decoded.float(), images, distribution, this)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 50 == 49:
            recent = float(np.mean(losses[-50:]))
            print(f"step {step + 1}: loss {recent:.4f}, KL {float(kl.detach()):.2f}, {time.time() - started:.0f} s", flush=True)
    vae.eval()
    figures = measure(vae, random.Random(seed + 1))
    if not this.decoder_only:
        scale_latents(vae, (1.0 / SCALE_FACTOR) / figures["latent_deviation"])
    return {"seconds": round(time.time() - started), "last_loss": round(float(np.mean(losses[-50:])), 4)} | figures


def loss_of(decoded: Tensor, images: Tensor, distribution: object, this: Round) -> tuple[Tensor, Tensor]:
    """(mean of |d| + d² where errors near edges count more, plus weighted KL; KL): images and decoded [B,3,H,W] in −1..1."""
    difference = decoded - images
    errors = difference.abs() + difference.square()
    if this.contrast:
        around = F.max_pool2d(images, 5, 1, 2) + F.max_pool2d(-images, 5, 1, 2)  # largest minus smallest of 5 × 5 pixels, 0..2
        weights = 1.0 + this.contrast * around.amax(1, keepdim=True) / 2.0
        errors = errors * (weights / weights.mean())
    mean, logvar = distribution.mean.float(), distribution.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    return errors.mean() + this.kl_weight * kl, kl


@torch.no_grad()
def measure(vae: torch.nn.Module, rng: random.Random, count: int = 64) -> dict[str, float]:
    """L1 (of a range of 2) and deviation of the latents' means over `count` new named pictures."""
    rows = [draw(random_scene(rng).scene, SIDE) for _ in range(count)]
    images = torch.from_numpy(np.stack([np.asarray(row) for row in rows])).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    latents = vae.encode(images).latent_dist.mean
    error = F.l1_loss(vae.decode(latents).sample, images)
    return {"l1": round(float(error), 4), "latent_deviation": float(latents.std())}


@torch.no_grad()
def scale_latents(vae: torch.nn.Module, factor: float) -> None:
    """Multiply the latents by `factor` exactly, in the encoder's last and the decoder's first convolution; pictures stay."""
    channels = vae.config.latent_channels
    vae.quant_conv.weight[:channels] *= factor
    vae.quant_conv.bias[:channels] *= factor
    vae.quant_conv.bias[channels:] += 2.0 * math.log(factor)  # log variance
    vae.post_quant_conv.weight /= factor


def main() -> None:
    """Train the autoencoder and keep every round as a Diffusers folder with its figures beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps, to try the recipe out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(train_vae(args.out, args.share, args.seed)[1], indent=1))


if __name__ == "__main__":
    main()
