"""What a model hands to a network module, of whatever origin: its text encoders as such modules know them, and names for the file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from torch import nn

from library.errors import UserError
from library.lora.layers import Prefixes, TextEncoders
from library.model.bundle import StableDiffusion
from library.model.family import ModelFamily


def text_encoders_of(model: StableDiffusion) -> TextEncoders:
    """The text encoder, or a list where the model has several, as network modules take them."""
    text_encoders = [_with_level(text_encoder) for text_encoder in model.text_encoders]
    return text_encoders[0] if len(text_encoders) == 1 else text_encoders


def prefixes_for(make: Callable[..., object], family: ModelFamily, args: Mapping[str, str]) -> dict[str, Prefixes]:
    """How the family's networks name their tensors, for modules that ask; others have names of their own."""
    if "prefixes" not in inspect.signature(make).parameters:
        return {}
    if "prefixes" in args:
        raise UserError("--network_args prefixes: follows from the model; leave it out")
    return {"prefixes": Prefixes(family.unet.lora_prefix, tuple(encoder.lora_prefix for encoder in family.text_encoders))}


def _with_level(text_encoder: nn.Module) -> nn.Module:
    """The text encoder with the `text_model` level that transformers dropped: network modules build their tensors' names from it."""
    if hasattr(text_encoder, "text_model"):
        return text_encoder
    level = nn.Module()
    level.text_model = text_encoder
    return level
