"""Makes the small inpainting model from the small model: five more input channels, of which nothing is known yet, then train_db.py.

    python -m examples.small_model.make_inpainting --out examples/small_model/small_sd_inpainting.safetensors

Takes about three quarters of an hour on a busy core (figures beside the file); `--share 0.1` goes through it with a tenth of the updates.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import train_db
from examples.small_model.holes import mask_of
from examples.small_model.make import SIDE, write_pictures
from examples.small_model.scenes import draw, scene_anywhere
from library.console import log, run_script, setup
from library.model.bundle import StableDiffusion
from library.model.files.facts import INPAINTING_CHANNELS

SMALL_MODEL = Path(__file__).parent / "small_sd.safetensors"
OUT = Path(__file__).parent / "small_sd_inpainting.safetensors"


@dataclass(frozen=True)
class InpaintingLesson:
    """One run of train_db.py --train_inpainting."""

    updates: int
    learning_rate: float = 1e-3
    hidden: int = 1  # how often a picture whose shape is under a mask is shown for each with a drawn mask


BATCH = 16
PICTURES = 2000  # of each kind: those whose shape is under a mask, and those with masks drawn for each showing
# The first finds out what the new channels mean; after it some shapes are smaller than their hole or beside it, which the second mends.
LESSONS = (InpaintingLesson(2400), InpaintingLesson(1200, 5e-4, hidden=2))


def main() -> None:
    """Make the model in `--work` and put the result at `--out`, its figures beside it as .json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write (float16, original layout)")
    parser.add_argument("--work", type=Path, default=Path("output/small_inpainting"), help="folder for pictures and intermediate files")
    parser.add_argument("--share", type=float, default=1.0, help="share of the updates and pictures, to try the recipe out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    setup()
    figures = make(args.out, args.work, args.share, args.seed)
    log.info(json.dumps(figures, indent=1))


def make(out: Path, work: Path, share: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """The whole recipe; returns the figures that are also written beside `out`."""
    work.mkdir(parents=True, exist_ok=True)
    model = work / "widened.safetensors"
    write_widened(SMALL_MODEL, model)
    count = max(BATCH, round(PICTURES * share))
    pictures, hidden = write_pictures(work, count, seed), write_hidden_shapes(work, count, seed)
    told = []
    for number, lesson in enumerate(LESSONS):
        began, updates = time.time(), max(2, round(lesson.updates * share))
        subsets = _subset(pictures) + _subset(*hidden, repeats=lesson.hidden)
        model = train(model, lesson, subsets, work / f"lesson{number + 1}", updates, seed + number)
        told.append(asdict(lesson) | {"updates": updates, "seconds": round(time.time() - began)})
    out.parent.mkdir(parents=True, exist_ok=True)
    model.replace(out)
    figures = {"seed": seed, "batch": BATCH, "pictures": 2 * count, "lessons": told, "bytes": out.stat().st_size}
    out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def write_hidden_shapes(work: Path, count: int, seed: int) -> tuple[Path, Path]:
    """Folders of drawn scenes with captions, and of their masks, which are white where the shape is, and a little around it."""
    pictures, masks = work / f"hidden{count}", work / f"hidden{count}_masks"
    for folder in (pictures, masks):
        folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"hidden {seed}")
    for number in range(count):
        shown = scene_anywhere(rng)
        draw(shown.scene, SIDE).save(pictures / f"{number:05d}.png")
        (pictures / f"{number:05d}.caption").write_text(shown.caption, encoding="utf-8")
        mask_of(shown.scene, rng.uniform(1.0, 1.3)).save(masks / f"{number:05d}.png")
    return pictures, masks


def _subset(pictures: Path, masks: Path | None = None, repeats: int = 1) -> str:
    files = "" if masks is None else f"conditioning_data_dir = '{masks}'\n"
    return f"[[datasets.subsets]]\nimage_dir = '{pictures}'\nnum_repeats = {repeats}\n{files}"


def write_widened(source: Path, path: Path) -> None:
    """The model of `source` with the input channels of an inpainting model, the new ones' weights 0: it draws as before."""
    from library.model.load import load
    from library.model.save import save_checkpoint

    save_checkpoint(widened(load(source)), path, torch.float32)


def widened(model: StableDiffusion) -> StableDiffusion:
    """`model`, its U-Net with channels for the mask and the masked image behind its own, whose weights are 0."""
    old = model.unet.conv_in
    new = torch.nn.Conv2d(INPAINTING_CHANNELS, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels].copy_(old.weight)
        assert new.bias is not None and old.bias is not None
        new.bias.copy_(old.bias)
    model.unet.conv_in = new
    model.unet.register_to_config(in_channels=INPAINTING_CHANNELS)
    return model


def train(model: Path, lesson: InpaintingLesson, subsets: str, folder: Path, updates: int, seed: int) -> Path:
    """Train the U-Net to fill in what masks hide; every tenth caption is left out, for classifier-free guidance. The result's path."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "pictures.toml"
    config.write_text(
        f"[general]\nresolution = {SIDE}\nbatch_size = {BATCH}\ncaption_dropout_rate = 0.1\n\n[[datasets]]\n{subsets}",
        encoding="utf-8",
    )
    command = f"""
        --pretrained_model_name_or_path {model} --train_inpainting --dataset_config {config} --stop_text_encoder_training -1
        --output_dir {folder} --output_name small_sd_inpainting --save_model_as safetensors --save_precision fp16
        --logging_dir {folder / "logs"} --cache_latents --vae_batch_size 32 --max_train_steps {updates} --seed {seed}
        --max_data_loader_n_workers 0 --learning_rate {lesson.learning_rate} --lr_scheduler cosine --lr_warmup_steps {updates // 20}
        --optimizer_args weight_decay=0.001 --min_snr_gamma 5
    """
    if run_script(train_db.main, command.split()) != 0:
        raise SystemExit("train_db.py stopped; see the error above")
    return folder / "small_sd_inpainting.safetensors"


if __name__ == "__main__":
    main()
