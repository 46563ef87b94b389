"""Options for the model to train and how its text encoder reads captions."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import Leniency, opt


@dataclass(frozen=True)
class ModelOptions:
    """The model that training starts from"""

    @property
    def start(self) -> str:
        """--pretrained_model_name_or_path, which `check` requires."""
        assert self.pretrained_model_name_or_path is not None
        return self.pretrained_model_name_or_path

    pretrained_model_name_or_path: str | None = opt(
        None,
        "The model to train: a .safetensors or .ckpt file, a Diffusers folder, or a Hugging Face model id such as "
        "stable-diffusion-v1-5/stable-diffusion-v1-5. Always needed.",
        path="model",
    )
    v2: bool = opt(False, "The model is Stable Diffusion 2.x. Not for 1.x models.")
    v_parameterization: bool = opt(
        False,
        "The model predicts velocity, as Stable Diffusion 2.x 768 models do (768-v). For those, set --v2 too.",
    )
    train_inpainting: bool = opt(
        False,
        "The model is an inpainting model (9 input channels): part of each image is masked out, a new one each time, and the model learns "
        "to fill it in (docs/inpainting.md). For your own masks, set conditioning_data_dir.",
    )
    vae: str | None = opt(
        None,
        "Another VAE (the part that encodes images to latents) instead of the model's: a checkpoint, a VAE file, "
        "a Diffusers folder or a Hugging Face id.",
        path="model",
    )
    tokenizer_cache_dir: str | None = opt(
        None,
        "A folder to keep tokenizers in, for machines without internet access. Rarely needed: the suite includes a tokenizer.",
        path="folder that is filled",
    )
    clip_skip: int | None = opt(
        None,
        "Use the output of the N-th layer from the end of the text encoder. 2 for models that were trained that way (most anime models); "
        "otherwise do not set it, and never for Stable Diffusion 2.x.",
        at_least=1,
        at_most=24,
        leniency=Leniency(zero_is_off=True),
    )
    max_token_length: int | None = opt(
        None,
        "How many tokens (word pieces) of a caption are read: 75 by default, 150 or 225 for long captions. "
        "Keep 75 unless your captions really are longer.",
        choices=(75, 150, 225),
        leniency=Leniency(zero_is_off=True, next_choice=True),
    )
