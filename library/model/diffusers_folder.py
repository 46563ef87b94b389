"""Write a model as a complete Diffusers folder from memory and this library alone; nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.containers.uncached import torch_save
from library.containers.weights_file import TensorInfo, dtype_name, write_safetensors
from library.files import atomic_folder
from library.model.drawing.samplers import SCHEDULE
from library.model.files import keys
from library.model.text.tokenizer import WINDOW, build_tokenizer
from library.model.text.vocabulary import ENTRIES, merges
from library.parsing.json_text import parse_json
from library.paths.look import is_file
from library.paths.opening import read_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import CLIPTextModel, CLIPTokenizer

    from library.model.bundle import StableDiffusion

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
TEXT_STEM = "model"  # of each text encoder
SCHEDULERS = {"PNDMScheduler": {"skip_prk_steps": True}, "DDIMScheduler": {}}  # by class, with their additional settings
ZERO_SNR_SCHEDULER = "DDIMScheduler"  # for models that start from pure noise, which PNDM does not support


def save_diffusers(
    model: StableDiffusion, folder: Path, dtype: torch.dtype | None = None, safetensors: bool = True, variant: str | None = None
) -> None:
    """Write `model` to `folder`, completely or not at all, as `StableDiffusionPipeline.from_pretrained` and older programs read it.

    Weights are safetensors, or pickles if `safetensors` is False, in `dtype` (None: as in memory); `variant` becomes part of their names.
    The scheduler is copied from the source if that is a Diffusers folder too. A safety checker is not written, since none was trained.
    """
    from diffusers import __version__

    with atomic_folder(Path(folder)) as place:
        for part in ("unet", "vae"):
            getattr(model, part).save_config(place / part)
        for part, text_encoder in zip(model.family.text_parts, model.text_encoders, strict=True):
            _write_json(place / part / "config.json", _text_config(text_encoder, dtype))
        for part, network in model.parts.items():
            level = keys.TEXT_LEVEL if part in model.family.text_parts else ""  # dropped by transformers
            state = {level + name: tensor for name, tensor in network.state_dict().items()}
            _write_weights(place / part, STEMS.get(part, TEXT_STEM), state, dtype, safetensors, f".{variant}" if variant else "")
        for part, encoder in model.family.text_parts.items():
            tokenizer = model.tokenizer.tokenizer if encoder is model.family.reader else build_tokenizer(encoder.padding)
            _write_tokenizer(place / tokenizer_folder(part), tokenizer)
        scheduler = _scheduler(model)
        _write_json(place / "scheduler" / "scheduler_config.json", scheduler | {"_diffusers_version": __version__})
        _write_json(place / "model_index.json", _index(model, scheduler["_class_name"], __version__))


def tokenizer_folder(part: str) -> str:
    """The tokenizer folder of a text encoder: tokenizer, tokenizer_2, …"""
    return part.replace("text_encoder", "tokenizer")


def _write_weights(folder: Path, stem: str, state: Mapping[str, Tensor], dtype: torch.dtype | None, safetensors: bool, mark: str) -> None:
    if safetensors:
        infos = {name: TensorInfo(dtype_name(dtype or tensor.dtype), tuple(tensor.shape)) for name, tensor in state.items()}
        write_safetensors(folder / f"{stem}{mark}.safetensors", infos, state.__getitem__, {"format": "pt"})
        return

    stem = {"model": "pytorch_model"}.get(stem, stem)
    torch_save({name: tensor.detach().to("cpu", dtype, copy=True) for name, tensor in state.items()}, folder / f"{stem}{mark}.bin")


def _text_config(text_encoder: CLIPTextModel, dtype: torch.dtype | None) -> dict[str, Any]:
    config: dict[str, Any] = text_encoder.config.to_dict()
    name = str(dtype or text_encoder.dtype).removeprefix("torch.")
    return config | {"architectures": ["CLIPTextModel"], "dtype": name, "torch_dtype": name}


def _scheduler(model: StableDiffusion) -> dict[str, Any]:
    source, common = model.source, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "trained_betas": None}
    if model.zero_terminal_snr:
        changed = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": model.prediction}
        return _named(ZERO_SNR_SCHEDULER) | SCHEDULE | common | changed
    if source is not None and source.layout == "diffusers":
        config_file = source.path / "scheduler" / "scheduler_config.json"
        if is_file(config_file):
            settings: dict[str, Any] = parse_json(read_text(config_file))
            return settings
    return _named(model.family.scheduler) | SCHEDULE | common | {"prediction_type": model.prediction}


def _named(scheduler: str) -> dict[str, Any]:
    return {"_class_name": scheduler, **SCHEDULERS[scheduler]}


def _write_tokenizer(folder: Path, tokenizer: CLIPTokenizer) -> None:
    """Write the tokenizer in the format of current transformers, and the two files that older versions read."""
    assert len(tokenizer) == ENTRIES, "tokens were added, but the text encoder has no weights for them"
    tokenizer.save_pretrained(folder)
    _write_json(folder / "vocab.json", tokenizer.get_vocab())
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges())]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    signs = {f"{name}_token": getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "pad", "unk")}
    _write_json(folder / "special_tokens_map.json", signs)
    config = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": WINDOW + 2}
    _write_json(folder / "tokenizer_config.json", config | signs | {"tokenizer_class": "CLIPTokenizer"})


def _index(model: StableDiffusion, scheduler: str, version: str) -> dict[str, Any]:
    text = {part: ["transformers", "CLIPTextModel"] for part in model.family.text_parts}
    text |= {tokenizer_folder(part): ["transformers", "CLIPTokenizer"] for part in text}
    return {
        "_class_name": "StableDiffusionInpaintPipeline" if model.inpaints else "StableDiffusionPipeline",
        "_diffusers_version": version,
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", scheduler],
        **text,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
