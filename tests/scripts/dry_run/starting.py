"""Dry runs started, and their printed reports read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import train_network
from tests.scripts.starting import dataset, start

ROOT = Path(__file__).parents[3]
# runs scripts in turn in a separate process and reports exit codes, CPU seconds and heavy packages
ALONE = """
import importlib, json, sys, time
from library.console import run_script
codes = []
for script, *argv in json.loads(sys.argv[1]):
    codes.append(run_script(importlib.import_module(script).main, argv))
heavy = [name for name in ("torch", "diffusers", "accelerate", "bitsandbytes") if name in sys.modules]
print(json.dumps({"codes": codes, "cpu": time.process_time(), "heavy": heavy}), file=sys.stderr)
"""


def alone(*commands: list[str]) -> tuple[dict, str]:
    """Facts and printed text of dry runs in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1]), done.stdout


def findings(text: str) -> list[tuple[str, str, str]]:
    """(level, text, remedy) of each finding of a printed report."""
    items, level = [], ""
    for line in text.splitlines():
        if heading := re.match(r"(ERROR|WARNING|NOTE)S", line):
            level = heading[1].lower()
        elif level and (item := re.match(r"  \d+\. (.*)", line)):
            items.append([level, item[1], ""])
        elif items and (remedy := re.match(r"     → (.*)", line)):
            items[-1][2] = remedy[1]
    return [tuple(item) for item in items]


SUBSET = "caption_extension = '.txt'\nnum_repeats = 3\nshuffle_caption = true\nkeep_tokens = 1\n"
BUCKETS = "[general]\nenable_bucket = true\nmin_bucket_reso = 64\nmax_bucket_reso = 256\nbucket_reso_steps = 32\n"


def described(folder: Path, images: Path, subset: str = SUBSET, resolution: int = 128) -> Path:
    config = dataset(folder / "set.toml", images, resolution=resolution, batch_size=1, subset=subset)
    config.write_text(BUCKETS + config.read_text(encoding="utf-8"), encoding="utf-8")
    return config


def dry(config: Path, model: Path, out: Path, main=train_network.main, **options: object) -> int:
    if main is train_network.main:
        options = {"network_module": "networks.lora"} | options
    shared = {"pretrained_model_name_or_path": model, "dataset_config": config, "output_dir": out, "max_train_epochs": 4}
    return start(main, **(shared | {"dry_run": True} | options))
