"""Trains the small model's autoencoder: Stable Diffusion's layout (f8, 4 channels, 32-group norms), 64 channels wide."""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from examples.small_model.scenes import draw, free_scene, random_scene
from library.console import progress

SIDE = 64
SCALE_FACTOR = 0.18215  # what every Stable Diffusion program multiplies latents with, so the latents' deviation must be its inverse
WIDTHS = (64, 64, 64, 64)
CROP = 32  # pixels; most steps see parts of pictures, a quarter of the work
CROPPED_SHARE = 0.8


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


def pictures(rng: random.Random, count: int) -> Tensor:
    """[count,3,SIDE,SIDE] in −1..1: half named scenes, half free ones, so that unseen colours and rims can be carried too."""
    drawn = [draw(random_scene(rng).scene if rng.random() < 0.5 else free_scene(rng), SIDE) for _ in range(count)]
    pixels = np.stack([np.asarray(picture) for picture in drawn])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def train_vae(
    steps: int, batch: int = 32, seed: int = 0, learning_rate: float = 2e-3, kl_weight: float = 1e-3
) -> tuple[torch.nn.Module, dict]:
    """Train for `steps` on freshly drawn pictures; returns the autoencoder with its latents scaled, and the figures of the run."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    vae = make_vae()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.1)
    started, losses = time.time(), []
    for step in progress(range(steps), label="autoencoder", unit="step"):
        images = pictures(rng, batch)
        if step < CROPPED_SHARE * steps:
            left, top = rng.randint(0, SIDE - CROP), rng.randint(0, SIDE - CROP)
            images = images[:, :, top : top + CROP, left : left + CROP].contiguous()
        with torch.autocast("cpu", torch.bfloat16):
            distribution = vae.encode(images).latent_dist
            decoded = vae.decode(distribution.sample()).sample
        difference = decoded.float() - images
        kl = 0.5 * (distribution.mean.float() ** 2 + distribution.logvar.float().exp() - 1.0 - distribution.logvar.float()).mean()
        loss = difference.abs().mean() + difference.square().mean() + kl_weight * kl
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 50 == 49:
            recent = float(np.mean(losses[-50:]))
            print(f"step {step + 1}: loss {recent:.4f}, KL {float(kl):.2f}, {time.time() - started:.0f} s", flush=True)
    vae.eval()
    figures = measure(vae, random.Random(seed + 1))
    scale_latents(vae, (1.0 / SCALE_FACTOR) / figures["latent_deviation"])
    return vae, {
        "steps": steps,
        "batch": batch,
        "seed": seed,
        "seconds": round(time.time() - started),
        "last_loss": round(float(np.mean(losses[-50:])), 4),
    } | figures


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
    """Train and write the autoencoder as a Diffusers folder with its figures beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    vae, figures = train_vae(args.steps, args.batch, args.seed)
    vae.save_pretrained(args.out)
    (args.out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(figures)


if __name__ == "__main__":
    main()
