"""Make a Stable Diffusion checkpoint with random weights in original layout, full-size or small, for measuring and for trying things out.

python benchmarks/make_model.py --version 1 --size full --out sd15-random.safetensors
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if __package__ in (None, ""):  # started as a script: the library lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.containers.dtypes import torch_dtype
from library.containers.weights_file import TensorInfo, write_safetensors
from library.files import atomic_write
from library.model.family import FAMILIES
from library.model.files import convert, keys

if TYPE_CHECKING:
    from torch import Tensor, nn

VOCABULARY = 49408


@dataclass(frozen=True)
class Size:
    """Widths and depths of a checkpoint; `text_layers` counts those that are used (a v2 file has one more)."""

    unet_widths: tuple[int, ...]
    unet_layers: int
    text_width: int
    text_layers: int
    vae_widths: tuple[int, ...]
    vae_layers: int


SIZES = {
    ("v1", "full"): Size((320, 640, 1280, 1280), 2, 768, 12, (128, 256, 512, 512), 2),
    ("v2", "full"): Size((320, 640, 1280, 1280), 2, 1024, 23, (128, 256, 512, 512), 2),
    ("v1", "small"): Size((32, 64, 64, 64), 1, 64, 2, (32, 32, 32, 32), 1),
    ("v2", "small"): Size((64, 64, 128, 128), 1, 128, 2, (32, 32, 32, 32), 1),
}


def write(path: Path, version: str = "v1", size: Size | str = "full", seed: int = 0, dtype: str = "F16") -> None:
    """Write a random checkpoint of `version` "v1" or "v2" as safetensors; every weight depends on `seed` and its name only."""
    infos = original_infos(version, SIZES[version, size] if isinstance(size, str) else size, dtype)
    schedule = _schedule()
    with atomic_write(Path(path)) as temporary:
        write_safetensors(temporary, infos, lambda name: _value(name, infos[name], schedule, seed), {"format": "pt"})


def original_infos(version: str, size: Size, dtype: str = "F16") -> dict[str, TensorInfo]:
    """Names, dtypes and shapes that a file of this version and size has: the three parts, position ids, schedules, EMA counters."""
    infos: dict[str, TensorInfo] = {}
    family = FAMILIES[version]
    encoder = family.text_encoders[0]
    for part, module in _parts(version, size).items():
        state = module.state_dict()
        for name, place in convert.original_places(part, state, family).items():
            infos[name] = TensorInfo(dtype, tuple(convert.to_original(place, state).shape))
    if version == "v1":
        infos[f"{encoder.prefix}{keys.TEXT_LEVEL}embeddings.position_ids"] = TensorInfo("I64", (1, 77))
    else:
        layer = f"{encoder.prefix}transformer.resblocks.{{}}."
        first = layer.format(0)
        last = {layer.format(size.text_layers) + name[len(first) :]: info for name, info in infos.items() if name.startswith(first)}
        infos |= last
        infos[encoder.prefix + "text_projection"] = TensorInfo(dtype, (size.text_width, size.text_width))
        infos[encoder.prefix + "logit_scale"] = TensorInfo(dtype, ())
    infos |= {name: TensorInfo("F32", tuple(value.shape)) for name, value in _schedule().items()}
    return infos | {"model_ema.decay": TensorInfo("F32", ()), "model_ema.num_updates": TensorInfo("I32", ())}


def _parts(version: str, size: Size) -> dict[str, nn.Module]:
    """The three parts without memory for their weights."""
    from library.light_imports.models import import_models
    from library.model.files.weightless import weightless

    import_models()
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    levels = len(size.unet_widths)
    with weightless():
        unet = UNet2DConditionModel(
            block_out_channels=size.unet_widths,
            layers_per_block=size.unet_layers,
            down_block_types=["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"],
            up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1),
            cross_attention_dim=size.text_width,
            attention_head_dim=8 if version == "v1" else [width // 64 for width in size.unet_widths],
            use_linear_projection=version == "v2",
        )
        vae = AutoencoderKL(
            block_out_channels=size.vae_widths,
            layers_per_block=size.vae_layers,
            down_block_types=["DownEncoderBlock2D"] * len(size.vae_widths),
            up_block_types=["UpDecoderBlock2D"] * len(size.vae_widths),
            latent_channels=4,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=VOCABULARY,
                hidden_size=size.text_width,
                intermediate_size=size.text_width * 4,
                num_hidden_layers=size.text_layers,
                num_attention_heads=size.text_width // 64,
            )
        )
    return {"unet": unet, "vae": vae, "text_encoder": text}


def _value(name: str, info: TensorInfo, schedule: dict[str, Tensor], seed: int) -> Tensor:
    """Weights that keep activations finite: matrices by their fan-in, norms 1, biases 0, embeddings 0.02."""
    import torch

    if name in schedule:
        return schedule[name]
    if name == "model_ema.decay":
        return torch.tensor(0.9999)
    if info.dtype.startswith("I"):
        return torch.arange(info.shape[-1]).expand(info.shape) if info.shape else torch.tensor(0)
    if name.endswith("logit_scale"):
        return torch.tensor(math.log(100.0))
    if len(info.shape) == 1:
        return torch.zeros(info.shape) if name.endswith("bias") else torch.ones(info.shape)
    deviation = 0.02 if "embedding" in name else math.prod(info.shape[1:]) ** -0.5
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
    return torch.randn(info.shape, generator=generator).mul_(deviation).to(torch_dtype(info.dtype))


def _schedule() -> dict[str, Tensor]:
    """The buffers of the original implementation: β from 0.00085 to 0.012, linear in √β, and what follows (Ho et al. 2020, eq. 4–12)."""
    import torch

    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = 1 - betas
    cumulative = alphas.cumprod(0)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), cumulative[:-1]])
    variance = betas * (1 - previous) / (1 - cumulative)
    table = {
        "betas": betas,
        "alphas_cumprod": cumulative,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": cumulative.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - cumulative).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - cumulative).log(),
        "sqrt_recip_alphas_cumprod": (1 / cumulative).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / cumulative - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * previous.sqrt() / (1 - cumulative),
        "posterior_mean_coef2": (1 - previous) * alphas.sqrt() / (1 - cumulative),
    }
    return {name: value.float() for name, value in table.items()}


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make a Stable Diffusion checkpoint with random weights, in original layout.")
    parser.add_argument("--version", choices=["1", "2"], default="1", help="Stable Diffusion 1 or 2")
    parser.add_argument("--size", choices=["full", "small"], default="full", help="full: as released; small: the same layout, a few MB")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other weights")
    parser.add_argument("--precision", choices=["fp16", "fp32", "bf16"], default="fp16", help="of the weights in the file")
    chosen = parser.parse_args(argv)
    write(chosen.out, f"v{chosen.version}", chosen.size, chosen.seed, {"fp16": "F16", "fp32": "F32", "bf16": "BF16"}[chosen.precision])
    print(f"{chosen.out}: Stable Diffusion v{chosen.version}, {chosen.size}, {chosen.out.stat().st_size / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
