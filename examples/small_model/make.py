"""Makes the small model from nothing: autoencoder, then U-Net and text encoder through this project's own train_db.py.

    python -m examples.small_model.make --out examples/small_model/small_sd.safetensors

Takes about five hours on one busy core (figures beside the file); `--share 0.1` goes through it all with a tenth of the steps.
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
from examples.small_model.scenes import draw, random_scene
from examples.small_model.train_vae import SIDE, train_vae
from library.console import log, run_script, setup

BATCH = 48
UNET_WIDTHS = (64, 64, 64, 96)  # multiples of the 32 norm groups and the 8 heads that every v1 model has
TEXT_WIDTH, TEXT_LAYERS = 64, 2


@dataclass(frozen=True)
class Lesson:
    """One run of train_db.py with the autoencoder of one of its rounds."""

    autoencoder: int
    updates: int
    learning_rate: float
    pictures: int = 4000
    more: str = ""


# The first lesson is learnt while the autoencoder is half done; what it teaches is of use to the second, which wants finer latents. The
# third goes over three times as many pictures, for the small crosses and stars that the second had left with too few arms.
LESSONS = (
    Lesson(1, 2000, 1.5e-3),
    Lesson(2, 3600, 1e-3, more="--min_snr_gamma 5"),
    Lesson(2, 5000, 1e-3, pictures=12000, more="--min_snr_gamma 5"),
)


def main() -> None:
    """Make the model in `--work` and put the result at `--out`, its figures beside it as .json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write (float16, original layout)")
    parser.add_argument("--work", type=Path, default=Path("output/small_model"), help="folder for pictures and intermediate files")
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps, to try the recipe out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    setup()
    figures = make(args.out, args.work, args.share, args.seed)
    log.info(json.dumps(figures, indent=1))


def make(out: Path, work: Path, share: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """The whole recipe; returns the figures that are also written beside `out`."""
    work.mkdir(parents=True, exist_ok=True)
    vae, vae_figures = train_vae(work / "vae", share, seed)
    model = work / "untrained.safetensors"
    write_untrained(model, vae, seed)
    told = []
    for number, lesson in enumerate(LESSONS, 1):
        began, updates = time.time(), max(2, round(lesson.updates * share))
        pictures = write_pictures(work, max(BATCH, round(lesson.pictures * share)), seed)
        model = train(model, lesson, pictures, work / f"lesson{number}", updates, seed + number - 1)
        told.append(asdict(lesson) | {"updates": updates, "seconds": round(time.time() - began)})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_result(model, vae, out)
    figures = {
        "seed": seed,
        "autoencoder": vae_figures,
        "diffusion": {"lessons": told, "batch": BATCH, "seconds": sum(one["seconds"] for one in told)},
        "bytes": out.stat().st_size,
        "seconds": vae_figures["seconds"] + sum(one["seconds"] for one in told),
    }
    out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def write_untrained(path: Path, vae: torch.nn.Module, seed: int) -> None:
    """A checkpoint in original layout with this autoencoder and an untrained U-Net and text encoder."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from library.model.bundle import StableDiffusion
    from library.model.family import V1
    from library.model.save import save_checkpoint
    from library.model.text.tokenizer import ClipTokenizer

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 8, block_out_channels=UNET_WIDTHS, layers_per_block=1, cross_attention_dim=TEXT_WIDTH, attention_head_dim=8
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=1,
            bos_token_id=49406,
            eos_token_id=49407,
        )
    )
    save_checkpoint(StableDiffusion(V1, "epsilon", ClipTokenizer(V1), text, vae, unet), path, torch.float32)


def write_result(model: Path, vae: torch.nn.Module, out: Path) -> None:
    """The trained model with the autoencoder's last decoder, float16; the encoder is the one that the last lesson used."""
    from library.model.load import load
    from library.model.save import save_checkpoint

    finished = load(model)
    finished.vae = vae
    save_checkpoint(finished, out, torch.float16)


def write_pictures(work: Path, count: int, seed: int) -> Path:
    """A folder with `count` drawn scenes, each with its caption beside it; fewer are the first ones of more."""
    folder = work / f"pictures{count}"
    if folder.exists() and len(list(folder.glob("*.caption"))) == count:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for number in range(count):
        shown = random_scene(rng)
        draw(shown.scene, SIDE).save(folder / f"{number:05d}.png")
        (folder / f"{number:05d}.caption").write_text(shown.caption, encoding="utf-8")
    return folder


def train(model: Path, lesson: Lesson, pictures: Path, folder: Path, updates: int, seed: int) -> Path:
    """Train U-Net and text encoder with train_db.py; every tenth caption is left out, for classifier-free guidance. The result's path."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "pictures.toml"
    config.write_text(
        f"[general]\nresolution = {SIDE}\nbatch_size = {BATCH}\ncaption_dropout_rate = 0.1\n\n"
        f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{pictures}'\n",
        encoding="utf-8",
    )
    command = f"""
        --pretrained_model_name_or_path {model} --vae {folder.parent / "vae" / f"round{lesson.autoencoder}"} --dataset_config {config}
        --output_dir {folder} --output_name small_sd --save_model_as safetensors --save_precision fp16 --logging_dir {folder / "logs"}
        --cache_latents --vae_batch_size 32 --max_train_steps {updates} --seed {seed} --max_data_loader_n_workers 0
        --learning_rate {lesson.learning_rate} --lr_scheduler cosine --lr_warmup_steps {updates // 20}
        --optimizer_args weight_decay=0.001 {lesson.more}
    """
    if run_script(train_db.main, command.split()) != 0:
        raise SystemExit("train_db.py stopped; see the error above")
    return folder / "small_sd.safetensors"


if __name__ == "__main__":
    main()
