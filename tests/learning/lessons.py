"""What the learning tests teach, by train_network.py: the subject, described in each of the ways that a user may describe a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import train_network
from examples.subject import CLASS, IDENTIFIER, write_captions, write_class, write_metadata, write_subject
from tests.scripts.running import run_in_process

RATE = "2e-3"
UPDATES = 250
COMMON = "--network_module networks.lora --network_dim 8 --network_alpha 8 --cache_latents --max_data_loader_n_workers 0"
GENERAL = "[general]\nresolution = 64\nbatch_size = 4\n\n[[datasets]]\n"


def class_and_identifier(folder: Path) -> str:
    """Pictures without captions, all of them called "zxc star"."""
    write_subject(folder / "zxc")
    return GENERAL + f"[[datasets.subsets]]\nimage_dir = '{folder / 'zxc'}'\nclass_tokens = '{IDENTIFIER}'\n"


def with_regularization(folder: Path) -> str:
    """The same with plain stars beside them, called "star"."""
    write_class(folder / "star")
    regularization = f"\n[[datasets.subsets]]\nimage_dir = '{folder / 'star'}'\nclass_tokens = '{CLASS}'\nis_reg = true\n"
    return class_and_identifier(folder) + regularization


def captions(folder: Path) -> str:
    """A caption file beside each picture."""
    write_captions(write_subject(folder / "zxc"))
    return GENERAL + f"[[datasets.subsets]]\nimage_dir = '{folder / 'zxc'}'\n"


def metadata(folder: Path) -> str:
    """The captions in a metadata file."""
    write_metadata(folder / "meta.json", write_subject(folder / "zxc"))
    return GENERAL + f"[[datasets.subsets]]\nimage_dir = '{folder / 'zxc'}'\nmetadata_file = '{folder / 'meta.json'}'\n"


def teach(model: Path, lesson: Callable[[Path], str], folder: Path, seed: int = 1, rate: str = RATE, *changes: object) -> Path:
    """Train a LoRA on `model` by the lesson's data set; returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "data.toml"
    config.write_text(lesson(folder), encoding="utf-8")
    named = ["--pretrained_model_name_or_path", model, "--dataset_config", config, "--output_dir", folder, "--output_name", "lora"]
    set_ = ["--learning_rate", rate, "--max_train_steps", UPDATES, "--seed", seed, *COMMON.split(), *changes]
    assert run_in_process(train_network.main, *named, *set_) == 0
    return folder / "lora.safetensors"
