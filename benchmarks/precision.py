"""What each precision and memory setting costs and saves: LoRA on full-size SD v1.5, losses beside fp32's, peak memory, time.

python benchmarks/precision.py --device cuda --resolution 512 --steps 20          # all settings, on a GPU
python benchmarks/precision.py --device cpu --resolution 128 --steps 3 --only fp32 bf16 full_bf16 fp8_base
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the project lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROOT = Path(__file__).resolve().parents[1]
HALF = ["--mixed_precision", "bf16"]
SETTINGS: dict[str, list[str]] = {
    "fp32": [],
    "fp32, mem_eff_attn": ["--mem_eff_attn"],
    "fp32, checkpointing": ["--gradient_checkpointing"],
    "fp16": ["--mixed_precision", "fp16"],
    "bf16": HALF,
    "bf16, xformers": [*HALF, "--xformers"],
    "bf16, checkpointing": [*HALF, "--gradient_checkpointing"],
    "full_fp16": ["--mixed_precision", "fp16", "--full_fp16"],
    "full_bf16": [*HALF, "--full_bf16"],
    "fp8_base": [*HALF, "--fp8_base"],
    "AdamW8bit": ["--optimizer_type", "AdamW8bit"],
    "PagedAdamW8bit": ["--optimizer_type", "PagedAdamW8bit"],
    "Lion8bit": ["--optimizer_type", "Lion8bit", "--learning_rate", "2e-5"],
}
GPU_ONLY = {name for name, flags in SETTINGS.items() if "fp16" in flags or "--xformers" in flags}
# how far the mean loss may be from fp32's, relative: 8 or 11 digits of a product, 3 of a stored weight
BOUNDS = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.02, "full": 0.03, "fp8": 0.05}


def bound_of(name: str) -> float:
    """The largest relative difference of the mean loss from fp32's that a setting may have."""
    return next(
        (BOUNDS[key] for key in ("full", "fp8", "bf16", "fp16") if key in name), BOUNDS["fp32"] if "fp32" in name else BOUNDS["bf16"]
    )


def main(argv: list[str] | None = None) -> int:
    """The command line; 1 when a loss is out of its bound."""
    parser = argparse.ArgumentParser(description="Train a LoRA in each precision and compare losses, peak memory and time.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--model", type=Path, help="SD v1 checkpoint; default: one with random weights, made once in the temporary folder")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", nargs="*", choices=list(SETTINGS), help="these settings; fp32 is always among them")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.one is not None:
        print(json.dumps(_train(json.loads(chosen.one))))
        return 0
    wanted = ["fp32", *[name for name in chosen.only or SETTINGS if name != "fp32"]]
    with tempfile.TemporaryDirectory() as folder:
        return _compare(chosen, [name for name in wanted if chosen.device == "cuda" or name not in GPU_ONLY], Path(folder))


def _compare(chosen: argparse.Namespace, names: list[str], folder: Path) -> int:
    _images(folder / "images" / "1_cat", chosen.resolution, chosen.batch)
    model = chosen.model or _random_model()
    print("| setting | peak GiB | s an update | mean loss | from fp32 | bound |\n|---|---|---|---|---|---|", flush=True)
    first, failed = 0.0, 0
    for name in names:
        common = ["--pretrained_model_name_or_path", model, "--train_data_dir", folder / "images", "--resolution", chosen.resolution]
        common += ["--train_batch_size", chosen.batch, "--output_dir", folder / "out", "--network_module", "networks.lora"]
        common += ["--network_dim", 4, "--max_train_steps", chosen.steps, "--cache_latents", "--seed", 1, "--learning_rate", "1e-4"]
        job = {"device": chosen.device, "argv": [str(part) for part in (*common, *SETTINGS[name])]}
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1" if chosen.device == "cpu" else "0"}
        command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(job)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, encoding="utf-8")
        if done.returncode:
            failed = 1
            print(f"| {name} | failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]} |", flush=True)
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        loss = statistics.fmean(found["losses"])
        first = first or loss
        off = loss / first - 1
        failed |= abs(off) > bound_of(name)
        cells = (name, f"{found['peak_gib']:.2f}", f"{found['seconds']:.2f}", f"{loss:.5f}", f"{off:+.3%}", f"{bound_of(name):.2%}")
        print("| " + " | ".join(cells) + " |", flush=True)
    return failed


def _train(job: dict) -> dict[str, object]:
    """One run in this process: its losses, seconds an update (the first left out) and peak memory."""
    import train_network
    from benchmarks.rounds import peak_gib
    from library.console import run_script
    from library.training.events import RunEvents

    losses: list[float] = []
    times: list[float] = []
    real = RunEvents.on_update

    def on_update(events, report) -> None:
        losses.append(report.loss)
        times.append(time.perf_counter())
        real(events, report)

    RunEvents.on_update = on_update  # type: ignore[method-assign]
    if run_script(train_network.main, job["argv"]):
        raise SystemExit(1)
    spans = [later - earlier for earlier, later in itertools.pairwise(times)]
    return {"losses": losses, "seconds": statistics.median(spans) if spans else 0.0, "peak_gib": peak_gib(job["device"])}


def _images(folder: Path, side: int, count: int) -> None:
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (side // 16, side // 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side)).save(folder / f"{number}.png")


def _random_model() -> Path:
    from benchmarks.make_model import write

    path = Path(tempfile.gettempdir()) / "sd15-random-weights.safetensors"
    if not path.exists():
        write(path, "v1", "full")
    return path


if __name__ == "__main__":
    sys.exit(main())
