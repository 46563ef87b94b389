"""Full-size Stable Diffusion with random weights through the launcher, as issue by users: no hub, no socket, a LoRA that others load.

Each case needs about 10 GiB of memory and some minutes of two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
NO_SOCKETS = """
import socket
def refuse(*args, **kwargs):
    raise RuntimeError("a socket was opened")
socket.socket.connect = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
"""


def train(model: Path, photos: Path, folder: Path, *flags: str) -> Path:
    """10 updates of a rank-4 LoRA at 128 px, batch 2, as a subprocess that must not open a connection; returns the LoRA file."""
    (folder / "offline").mkdir()
    (folder / "offline" / "sitecustomize.py").write_text(NO_SOCKETS, encoding="utf-8")
    config = folder / "photos.toml"
    config.write_text(
        "[general]\nresolution = 128\nenable_bucket = true\nmin_bucket_reso = 64\nmax_bucket_reso = 256\nbatch_size = 2\n\n"
        f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{photos}'\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", str(ROOT / "train_network.py")]
    command += ["--pretrained_model_name_or_path", str(model), "--dataset_config", str(config), "--output_dir", str(folder / "out")]
    command += ["--output_name", "x", "--network_module", "networks.lora", "--network_dim", "4", "--max_train_steps", "10"]
    command += ["--cache_latents", "--seed", "1", "--learning_rate", "1e-3", *flags]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join([str(folder / "offline"), str(ROOT)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out" / "x.safetensors"


def counts(file: Path) -> tuple[int, int, int]:
    """Modules of the U-Net, of the text encoder, and tensors in all."""
    names = load_file(file).keys()
    modules = {name.split(".", 1)[0] for name in names}
    unet = sum(module.startswith("lora_unet_") for module in modules)
    return unet, len(modules) - unet, len(names)


@pytest.fixture(scope="module")
def full_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full-size SD v1.5 checkpoint of random weights."""
    from benchmarks.make_model import write

    path = tmp_path_factory.mktemp("full") / "sd15.safetensors"
    write(path, "v1", "full")
    return path


@pytest.mark.slow
def test_full_size_v1_trains_offline_and_its_lora_changes_what_diffusers_draws(full_v1: Path, photos: Path, tmp_path: Path) -> None:
    lora = train(full_v1, photos, tmp_path)
    assert counts(lora) == (192, 72, 264 * 3)

    from diffusers import StableDiffusionPipeline

    from library.model.load import load

    model = load(full_v1)
    from diffusers import DDIMScheduler

    pipe = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        made = pipe("a photo of a cat", height=128, width=128, num_inference_steps=2, generator=generator, output_type="latent")
        return made.images

    before = draw()
    pipe.load_lora_weights(lora)
    assert (draw() - before).abs().max() > 1e-3


@pytest.mark.slow
def test_full_size_v2_trains_offline(photos: Path, tmp_path: Path) -> None:
    from benchmarks.make_model import write

    model = tmp_path / "sd2.safetensors"
    write(model, "v2", "full")
    assert counts(train(model, photos, tmp_path, "--v2")) == (192, 138, 330 * 3)
