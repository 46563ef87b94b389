"""The form of a saved model: one file in original layout, or a Diffusers folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from library.model.diffusers_folder import save_diffusers
from library.model.save import save_checkpoint

if TYPE_CHECKING:
    import torch

    from library.model.bundle import StableDiffusion

EXTENSIONS = {"ckpt": ".ckpt", "safetensors": ".safetensors", "diffusers": "", "diffusers_safetensors": ""}  # "" for folders


def product_form(save_model_as: str | None, use_safetensors: bool, source_layout: str) -> str:
    """Return a key of EXTENSIONS: `save_model_as`, or the source's layout if that is not set."""
    form = save_model_as or source_layout
    return {"ckpt": "safetensors", "diffusers": "diffusers_safetensors"}.get(form, form) if use_safetensors else form


def save_product(
    model: StableDiffusion,
    path: Path,
    form: str,
    dtype: torch.dtype | None = None,
    trained: tuple[int, int] = (0, 0),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `model` to `path` in `form`, completely or not at all; `trained` are epochs and updates of this run, which files record.

    `dtype` None keeps that of a source file, and float32 in folders. A `.safetensors` file contains `metadata`.
    """
    if form in ("diffusers", "diffusers_safetensors"):
        save_diffusers(model, path, dtype, safetensors=form == "diffusers_safetensors")
    else:
        save_checkpoint(model, path, dtype, metadata, trained)
