"""Options that say which model is trained and how its text encoder reads captions."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import Leniency, opt


@dataclass(frozen=True)
class ModelOptions:
    """The model that training starts from"""

    @property
    def start(self) -> str:
        """--pretrained_model_name_or_path, which `check` has seen to be given."""
        assert self.pretrained_model_name_or_path is not None
        return self.pretrained_model_name_or_path

    pretrained_model_name_or_path: str | None = opt(
        None,
        "The model to train: a .safetensors or .ckpt file, a Diffusers folder, or a Hugging Face model id such as "
        "stable-diffusion-v1-5/stable-diffusion-v1-5. Always needed.",
        path="model",
    )
    v2: bool = opt(False, "The model is a Stable Diffusion 2.x one. Leave it out for 1.x models.")
    v_parameterization: bool = opt(
        False,
        "The model predicts velocity, as Stable Diffusion 2.x 768 models do (768-v). Give it together with --v2 for those.",
    )
    train_inpainting: bool = opt(
        False,
        "The model is an inpainting one (9 input channels): of each image a part is masked out, drawn anew each time, and the model learns "
        "to fill it in (docs/inpainting.md). Masks of your own: conditioning_data_dir.",
    )
    vae: str | None = opt(
        None,
        "Another VAE (the part that turns images into latents) instead of the model's own: a checkpoint, a VAE file, "
        "a Diffusers folder or a Hugging Face id.",
        path="model",
    )
    tokenizer_cache_dir: str | None = opt(
        None,
        "A folder in which tokenizers are kept, for machines without internet access. The suite brings its own, so it is rarely needed.",
        path="folder that is filled",
    )
    clip_skip: int | None = opt(
        None,
        "Use the output of the N-th layer from the end of the text encoder. 2 for models that were trained so (most anime models); "
        "leave it out otherwise, and always for Stable Diffusion 2.x.",
        at_least=1,
        at_most=24,
        leniency=Leniency(zero_is_off=True),
    )
    max_token_length: int | None = opt(
        None,
        "How many tokens (word pieces) of a caption are read: 75 when left out, 150 or 225 for long captions. "
        "Use 75 unless your captions really are longer.",
        choices=(75, 150, 225),
        leniency=Leniency(zero_is_off=True, next_choice=True),
    )
