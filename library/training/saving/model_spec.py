"""`modelspec.*`: what a saved file is, in the terms of Stability AI's Model Metadata Standard 1.0.0 (github.com/Stability-AI/ModelSpec)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from library.containers.weights_file import SPEC_KEY
from library.model.family import ModelFamily
from library.options.groups.saving import SavingOptions

VERSION = "1.0.0"
ORIGINAL = "https://github.com/Stability-AI/generative-models"  # layouts of single files, and of embeddings
DIFFUSERS = "diffusers"
PRODUCTS = {"full_model": "", "network": "lora", "textual_inversion": "textual-inversion", "xti": "textual-inversion"}  # by method


def model_spec(
    options: SavingOptions,
    *,
    clip_skip: int | None,
    timesteps: range,
    method: str,
    family: ModelFamily,
    prediction: str,
    resolutions: Sequence[tuple[int, int]],
    inpaints: bool = False,
    trigger: str | None = None,
    now: float | None = None,
) -> dict[str, str]:
    """Return the keys of a file that `method` saves for a model of `family` that predicts "epsilon" or "v_prediction".

    `resolutions` are those of the datasets; the largest one is recorded. `timesteps` are the trained ones. The writer of the tensors adds
    the hash.
    """
    product = PRODUCTS.get(method, method)
    architecture = family.architecture_of(prediction)
    if inpaints and not product:  # a LoRA or an embedding also works with ordinary models
        architecture = family.inpainting_architecture
    technical = options.metadata_privacy == "technical"
    made_up = f"{architecture} {product}".strip() if technical else options.output_name or "last"
    width, height = max(resolutions, key=lambda size: size[0] * size[1], default=(family.resolution, family.resolution))
    values = {
        "architecture": f"{architecture}/{product}" if product else architecture,
        "implementation": DIFFUSERS if product == "lora" else ORIGINAL,
        "title": options.metadata_title or made_up,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "resolution": f"{width}x{height}",
        "prediction_type": "epsilon" if prediction == "epsilon" else "v",
        **{word: text for word, text in own_words(options).items() if word != "title"},
    }
    if layer := family.clip_skip(clip_skip):
        values["encoder_layer"] = str(layer)
    values["timestep_range"] = f"{timesteps.start},{timesteps.stop}"
    if trigger and not technical:
        values.setdefault("trigger_phrase", trigger)
    return {SPEC_KEY: VERSION} | {f"modelspec.{key}": value for key, value in values.items()}


def own_words(options: SavingOptions) -> dict[str, str]:
    """Return the user's own entries that are set: --metadata_title, --metadata_author, …."""
    words = {
        "title": options.metadata_title,
        "author": options.metadata_author,
        "description": options.metadata_description,
        "license": options.metadata_license,
        "tags": options.metadata_tags,
        "usage_hint": options.metadata_usage_hint,
        "thumbnail": options.metadata_thumbnail,
        "merged_from": options.metadata_merged_from,
        "trigger_phrase": options.metadata_trigger_phrase,
        "preprocessor": options.metadata_preprocessor,
        "is_negative_embedding": options.metadata_is_negative_embedding,
    }
    return {word: text for word, text in words.items() if text}
