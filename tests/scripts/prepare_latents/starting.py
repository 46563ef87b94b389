"""finetune/prepare_buckets_latents.py started, and fine_tune.py on what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import fine_tune
from finetune import prepare_buckets_latents
from tests.scripts.running import run_in_process
from tests.scripts.starting import start

SIZES = ["--max_resolution", "64,64", "--min_bucket_reso", 32, "--max_bucket_reso", 128, "--bucket_reso_steps", 32]


def prepare(folder: Path, model: Path, *more: object, source: str = "meta.json") -> int:
    place = (folder / "pictures", folder / source, folder / "out.json", model)
    return run_in_process(prepare_buckets_latents.main, *place, *SIZES, *more)


def entries(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "out.json").read_text(encoding="utf-8"))


def train(folder: Path, model: Path, name: str, **options: object) -> int:
    common = {
        "pretrained_model_name_or_path": model,
        "train_data_dir": folder / "pictures",
        "in_json": folder / "out.json",
        "output_dir": folder / name,
        "max_train_steps": 4,
        "learning_rate": 1e-3,
        "seed": 1,
        "max_data_loader_n_workers": 0,
        "save_precision": "float",
    }
    return start(fine_tune.main, **{**common, **options})
