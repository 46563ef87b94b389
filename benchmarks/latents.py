"""Latents a second of the disk cache beside a bare batched `vae.encode` loop over images that lie decoded in memory.

python benchmarks/latents.py --resolution 128 --images 24 --batch 4 --record "machine otherwise idle"

The cache reads, hashes, decodes, scales and crops photographs of 1600×1200, encodes them and writes files; the loop only encodes. Both use
one full-size VAE with random weights in one process and take turns; the ratio is the median over pairs of rounds.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the library lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.train_step import device_name
from library.data.batching.buckets import FilledData, fill
from library.data.config.build import read_config
from library.data.loading.loader import worker_count
from library.data.pixels.images import load_image
from library.data.pixels.latent_build import build, look
from library.data.pixels.latent_files import cache_file
from library.data.pixels.latent_plan import CacheRules, remove_files
from library.data.scan.records import scan
from library.model.bundle import moments

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = "# Building the latent cache"
CONFIG = "[[datasets]]\nresolution = {}\n[[datasets.subsets]]\nimage_dir = '{}'\nclass_tokens = 'photo'\n"


def vae_of(width: int, device: str, precision: str):
    """Stable Diffusion's VAE with random weights; `width` 128 is full size."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        layers_per_block=2,
        latent_channels=4,
    )
    return vae.eval().requires_grad_(False).to(device, {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision])


def photographs(folder: Path, count: int, resolution: int) -> FilledData:
    """`count` JPEG files with the detail of photographs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        rough = Image.fromarray(rng.integers(0, 255, (75, 100, 3), dtype=np.uint8)).resize((1600, 1200), Image.Resampling.BICUBIC)
        noise = rng.normal(0, 6, (1200, 1600, 3))
        Image.fromarray((np.asarray(rough) + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{number:04}.jpg", quality=90)
    config = folder / "data.toml"
    config.write_text(CONFIG.format(resolution, folder.as_posix()), encoding="utf-8")
    return fill(scan(read_config(config, {}, frozenset({"dreambooth"}))))


def main() -> None:
    """Measure, print the figures and with --record append them to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("resolution", 128), ("images", 24), ("batch", 4), ("rounds", 5), ("width", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"))
    parser.add_argument("--record", metavar="NOTE", help="append the figures to RESULTS.md with this note")
    given = parser.parse_args()
    vae = vae_of(given.width, given.device, given.precision)

    def encode(images: Tensor) -> Tensor:
        return moments(vae, images.to(given.device))

    with tempfile.TemporaryDirectory() as place:
        data = photographs(Path(place), given.images, given.resolution)
        pixels = torch.stack([torch.from_numpy(load_image(*pair, None)) for pair in zip(data.records, data.placements, strict=True)])

        def bare() -> None:
            for batch in pixels.split(given.batch):
                encode(batch).cpu()

        def cached() -> None:
            found = look(data, CacheRules("benchmark", file_of=cache_file))
            cache = build(found, encode, given.batch, max(1, worker_count()))
            assert not cache.in_memory and len(found.missing) == given.images

        encode(pixels[: given.batch]).cpu()
        times: dict[str, list[float]] = {"bare": [], "cached": []}
        processor: dict[str, list[float]] = {"bare": [], "cached": []}
        for number in range(given.rounds):
            for side, work in sorted({"bare": bare, "cached": cached}.items(), reverse=number % 2 == 1):
                remove_files(data)
                started = time.perf_counter(), time.process_time()
                work()
                times[side].append(time.perf_counter() - started[0])
                processor[side].append(time.process_time() - started[1])
        started_again = time.perf_counter()
        assert not look(data, CacheRules("benchmark", file_of=cache_file)).missing
        second = (time.perf_counter() - started_again) / given.images * 1e6
        size = sum(file.stat().st_size for file in Path(place).glob("*.npz")) / given.images
    row = _row(given, times, processor, second, size)
    print("\n".join(f"{name}: {value}" for name, value in row.items()))
    if given.record is not None:
        _record([*row.values(), given.record])


def _row(given: argparse.Namespace, times: dict[str, list[float]], processor: dict[str, list[float]], second: float, size: float):
    speed = {side: given.images / statistics.median(values) for side, values in times.items()}
    ratio = statistics.median(bare / cached for bare, cached in zip(times["bare"], times["cached"], strict=True))
    cpu = statistics.median(bare / cached for bare, cached in zip(processor["bare"], processor["cached"], strict=True))
    return {
        "date": datetime.date.today().isoformat(),
        "device": device_name(given.device),
        "px": str(given.resolution),
        "batch": str(given.batch),
        "precision": {"no": "fp32"}.get(given.precision, given.precision),
        "bare latents/s": f"{speed['bare']:.3g}",
        "cache latents/s": f"{speed['cached']:.3g}",
        "cache / bare": f"{ratio:.2f}",
        "of CPU time": f"{cpu:.2f}",
        "second start µs/image": f"{second:.0f}",
        "bytes/image": f"{size:,.0f}",
    }


def _record(cells: list[str]) -> None:
    """Append to the table of this benchmark, wherever in the page it stands."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    at = next(number for number in range(lines.index(HEADING), len(lines)) if lines[number].startswith("|---")) + 1
    while at < len(lines) and lines[at].startswith("|"):
        at += 1
    lines.insert(at, "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
