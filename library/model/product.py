"""In which form a trained model is kept: one file in original layout, or a Diffusers folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from library.model.save import save_checkpoint

if TYPE_CHECKING:
    import torch

    from library.model.bundle import StableDiffusion

FILES = {"ckpt": ".ckpt", "safetensors": ".safetensors"}


def product_form(save_model_as: str | None, use_safetensors: bool, source_layout: str) -> str:
    """"ckpt", "safetensors", "diffusers" or "diffusers_safetensors"; without `save_model_as` that of the source."""
    form = save_model_as or source_layout
    if use_safetensors:
        form = {"ckpt": "safetensors", "diffusers": "diffusers_safetensors"}.get(form, form)
    return form


def save_product(
    model: StableDiffusion, path: Path, form: str, dtype: torch.dtype | None = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write `model` to `path` in `form`, whole or not at all; `dtype` None keeps that of the source where there is one."""
    assert form in FILES and path.suffix == FILES[form], (form, path)
    save_checkpoint(model, path, dtype, metadata)
