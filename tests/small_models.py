"""Tiny random Stable Diffusion models for tests: the true layout with a full vocabulary, a few MB, tens of ms for a forward pass."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.make_model import SIZES, Size, write
from library.containers.weights_file import dtype_name

SMALL = {version: SIZES[version, "small"] for version in ("v1", "v2")}


def write_checkpoint(path: Path, version: str = "v1", seed: int = 0, dtype: torch.dtype = torch.float16, size: Size | None = None) -> Path:
    """A small original-layout checkpoint of `version` at `path` (.safetensors or .ckpt); `size` for other widths and depths."""
    path = Path(path)
    if path.suffix == ".ckpt":
        from safetensors.torch import load_file

        twin = path.with_suffix(".for-ckpt.safetensors")
        write(twin, version, size or SMALL[version], seed, dtype_name(dtype))
        torch.save({"state_dict": load_file(twin), "global_step": 7, "epoch": 1}, path)
        twin.unlink()
    else:
        write(path, version, size or SMALL[version], seed, dtype_name(dtype))
    return path


def write_inpainting(path: Path, version: str = "v1", seed: int = 0) -> Path:
    """The checkpoint of `write_checkpoint` with the nine input channels of an inpainting model, the new ones' weights random too."""
    from examples.small_model.make_inpainting import widened
    from library.model.load import load
    from library.model.save import save_checkpoint

    source = write_checkpoint(path.with_name(f"source-of-{path.name}"), version, seed)
    model = widened(load(source, v2=version == "v2"))
    with torch.no_grad():
        model.unet.conv_in.weight[:, 4:].normal_(std=0.1, generator=torch.Generator().manual_seed(seed))
    save_checkpoint(model, path, torch.float16)
    source.unlink()
    return path


def write_diffusers(
    folder: Path,
    version: str = "v1",
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    safetensors: bool = True,
    prediction: str = "epsilon",
) -> Path:
    """The model of `write_checkpoint` as a Diffusers folder, written by diffusers and transformers themselves."""
    from library.model.load import load

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = write_checkpoint(folder / "source.safetensors", version, seed, dtype)
    model = load(source, v2=version == "v2", dtype=dtype)
    source.unlink()
    model.unet.save_pretrained(folder / "unet", safe_serialization=safetensors)
    model.vae.save_pretrained(folder / "vae", safe_serialization=safetensors)
    _save_text_encoder(model.text_encoder, folder / "text_encoder", safetensors)
    model.tokenizer.tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": prediction,
    }
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": "0.42.0",
            "feature_extractor": [None, None],
            "safety_checker": [None, None],
            "requires_safety_checker": False,
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    return folder


def _save_text_encoder(text_encoder: torch.nn.Module, folder: Path, safetensors: bool) -> None:
    text_encoder.save_pretrained(folder)
    if not safetensors:  # transformers no longer writes the old format; files of it, with the level it had, are still around
        from safetensors.torch import load as read

        state = read((folder / "model.safetensors").read_bytes())  # not mapped, so that the file can go on Windows too
        state = {"text_model." + name.removeprefix("text_model."): value for name, value in state.items()}
        state["text_model.embeddings.position_ids"] = torch.arange(77).expand(1, -1)
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def write_strong_lora(path: Path, checkpoint: Path) -> Path:
    """A LoRA of rank 2 for a checkpoint that changes much, all of its modules alike."""
    from library.model.load import load
    from networks.lora import create_network

    model = load(checkpoint)
    torch.manual_seed(0)
    network = create_network(1.0, 2, 2.0, None, model.text_encoder, model.unet)
    for layer in network.layers().values():
        torch.nn.init.normal_(layer.lora_up.weight, std=0.3)
    network.save_weights(path, None, {"ss_network_module": "networks.lora"})
    return path
