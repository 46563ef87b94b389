"""Options of the scripts that train the model's own weights: train_db.py and fine_tune.py."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.bounds import MOST_RATE, MOST_STEPS
from library.options.declare import opt
from library.options.groups.optimizer import norm_of_text_encoder
from library.options.groups.saving import SavingOptions


@dataclass(frozen=True)
class DreamBoothOptions:
    """What is trained"""

    stop_text_encoder_training: int | None = opt(
        None,
        "Train the text encoder for this many updates only, then the U-Net alone; -1 = never train it. Default: train it throughout.",
        at_least=-1,
        at_most=MOST_STEPS,
    )
    learning_rate_te: float | None = opt(
        None,
        "Learning rate of the text encoder, if different from --learning_rate; 0 = do not train it.",
        at_least=0,
        at_most=MOST_RATE,
    )
    max_grad_norm_te: float | None = norm_of_text_encoder()
    no_token_padding: bool = opt(
        False,
        "Do not pad captions to 75 tokens (as Diffusers' DreamBooth script did). Only useful to compare with that script.",
    )


@dataclass(frozen=True)
class FineTuneOptions:
    """What is trained"""

    train_text_encoder: bool = opt(False, "Train the text encoder too. Default: train only the U-Net.")
    learning_rate_te: float | None = opt(
        None,
        "With --train_text_encoder: its learning rate, if different from --learning_rate; 0 = do not train it.",
        at_least=0,
        at_most=MOST_RATE,
    )
    max_grad_norm_te: float | None = norm_of_text_encoder()
    diffusers_xformers: bool = opt(False, "Use xformers through Diffusers; here the same as --xformers.")


@dataclass(frozen=True)
class CheckpointSavingOptions(SavingOptions):
    """Saving results"""

    save_model_as: str | None = opt(
        None,
        "Format of the result: one file (ckpt, safetensors) or a Diffusers folder (diffusers, diffusers_safetensors). "
        "Default: the format of the model that training starts from.",
        choices=("ckpt", "safetensors", "diffusers", "diffusers_safetensors"),
    )
    use_safetensors: bool = opt(False, "Write weights as safetensors if --save_model_as is not set or is ckpt or diffusers.")
