"""The texts in an image file: the generation parameters for web UIs, and all of them as JSON to generate the image again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from library.containers.weights_file import is_image_file, open_weights
from library.files import sha256
from library.generation.drawing import Studio
from library.generation.networks import AppliedNetwork
from library.generation.plan import Picture
from library.options.tool_groups.pictures import GenImg
from library.pictures.png_texts import PARAMETERS, description, used_settings

FACTS = "gen_img"  # the key of our own text
_hashes: dict[Path, str] = {}


def texts_of(studio: Studio, options: GenImg, picture: Picture) -> dict[str, str]:
    """Return the texts of the PNG by key."""
    prompt, files = picture.prompt, options.model
    size = (prompt.width, prompt.height)
    used = used_settings(prompt.steps, picture.sampler, prompt.guidance, picture.seed, size) | {"Model": Path(files.ckpt).stem}
    if files.vae is not None:
        used["VAE"] = Path(files.vae).name
    if studio.manner.clip_skip:
        used["Clip skip"] = studio.manner.clip_skip
    if picture.image is not None:
        used["Denoising strength"] = f"{prompt.denoising:g}"
    if studio.networks:
        hashes = (f"{one.choice.file.stem}: {network_hash(one.choice.file)[:12]}" for one in studio.networks)
        used["Lora hashes"] = '"' + ", ".join(hashes) + '"'
    facts = _facts(studio, options, picture)
    return {PARAMETERS: description(prompt.prompt, prompt.negative, used), FACTS: json.dumps(facts, ensure_ascii=False)}


def network_hash(file: Path) -> str:
    """Return the SHA-256 by which web UIs recognize a network: from its metadata, else of the file."""
    if file not in _hashes:
        said = "" if is_image_file(file) else open_weights(file, "--network_weights").metadata.get("sshs_model_hash", "")
        _hashes[file] = said or sha256(file)
    return _hashes[file]


def _facts(studio: Studio, options: GenImg, picture: Picture) -> dict[str, Any]:
    files, prompt = options.model, picture.prompt
    networks = options.networks
    facts: dict[str, Any] = {
        "model": Path(files.ckpt).name,
        "vae": Path(files.vae).name if files.vae else None,
        "family": studio.model.family.name,
        "prediction": studio.model.prediction,
        "zero_terminal_snr": files.zero_terminal_snr,
        "precision": "float" if studio.manner.half is None else str(studio.manner.half).removeprefix("torch."),
        "clip_skip": studio.manner.clip_skip,
        "networks": [_network(one, strength) for one, strength in zip(studio.networks, prompt.strengths, strict=True)],
        "embeddings": [Path(file).name for file in (*networks.textual_inversion_embeddings, *networks.XTI_embeddings)],
        "number": picture.number,
    }
    if picture.image is not None:
        facts |= {"image": picture.image.name, "mask": picture.mask.name if picture.mask else None, "strength": prompt.denoising}
    return facts


def _network(network: AppliedNetwork, strength: float) -> dict[str, Any]:
    file = network.choice.file
    return {"file": file.name, "module": network.module, "strength": strength, "sha256": network_hash(file)}
