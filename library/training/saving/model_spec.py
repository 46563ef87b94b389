"""`modelspec.*`: what a saved file is, in the words of Stability AI's Model Metadata Standard 1.0.0 (github.com/Stability-AI/ModelSpec)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from library.model.files.weights_file import SPEC_KEY

VERSION = "1.0.0"
ORIGINAL = "https://github.com/Stability-AI/generative-models"  # layouts of single files, and of embeddings
DIFFUSERS = "diffusers"
PRODUCTS = {"full_model": "", "network": "lora", "textual_inversion": "textual-inversion", "xti": "textual-inversion"}  # by method
_OWN_WORDS = ("author", "description", "license", "tags")  # --metadata_author, …


def model_spec(
    options: Mapping[str, Any],
    *,
    method: str,
    version: str,
    prediction: str,
    resolutions: Sequence[tuple[int, int]],
    trigger: str | None = None,
    now: float | None = None,
) -> dict[str, str]:
    """The keys of a file that `method` saves for a model of `version` (v1, v2) that predicts "epsilon" or "v_prediction".

    `resolutions` are those of the datasets; the largest one counts. The hash is filled in by who writes the tensors.
    """
    product = PRODUCTS.get(method, method)
    family = "stable-diffusion-" + ("v1" if version == "v1" else "v2-512" if prediction == "epsilon" else "v2-768-v")
    technical = options.get("metadata_privacy") == "technical"
    made_up = f"{family} {product}".strip() if technical else options.get("output_name") or "last"
    width, height = max(resolutions, key=lambda size: size[0] * size[1], default=(512, 512))
    values = {
        "architecture": f"{family}/{product}" if product else family,
        "implementation": DIFFUSERS if product == "lora" else ORIGINAL,
        "title": options.get("metadata_title") or made_up,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "resolution": f"{width}x{height}",
        "prediction_type": "epsilon" if prediction == "epsilon" else "v",
        **{word: options[f"metadata_{word}"] for word in _OWN_WORDS if options.get(f"metadata_{word}")},
    }
    if options.get("clip_skip") and version == "v1":
        values["encoder_layer"] = str(options["clip_skip"])
    if options.get("min_timestep") or options.get("max_timestep"):
        values["timestep_range"] = f"{options.get('min_timestep') or 0},{options.get('max_timestep') or 1000}"
    if trigger and not technical:
        values["trigger_phrase"] = trigger
    return {SPEC_KEY: VERSION} | {f"modelspec.{key}": value for key, value in values.items()}
