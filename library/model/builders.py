"""Build the parts of a model without weights: by the config of a Diffusers folder, or by the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from library.model import configs
from library.model.family import ModelFamily, TextEncoderFacts
from library.model.files.facts import read_json, text_settings

if TYPE_CHECKING:
    from torch import nn

Shapes = dict[str, tuple[int, ...]]
Build = Callable[[Shapes], "nn.Module"]  # raises UserError for settings that it names, and exceptions of any kind for others


def unet_builder(family: ModelFamily, folder: Path | None, option: str) -> Build:
    """For the U-Net: by the config in `folder`, or, without one, by the shapes; `option` is for messages."""

    def build(shapes: Shapes) -> nn.Module:
        from diffusers import UNet2DConditionModel

        config = _config(folder, option)
        unet: nn.Module
        if config:
            configs.check_unet_settings(config, _where(folder, option))
            unet = UNet2DConditionModel.from_config(config)
        else:
            unet = UNet2DConditionModel(**configs.unet_config(shapes, family))
        return unet

    return build


def vae_builder(folder: Path | None, option: str) -> Build:
    """For the VAE."""

    def build(shapes: Shapes) -> nn.Module:
        from diffusers import AutoencoderKL

        config = _config(folder, option)
        configs.check_vae_settings(config or {}, _where(folder, option))
        vae: nn.Module = AutoencoderKL.from_config(config) if config else AutoencoderKL(**configs.vae_config(shapes))
        return vae

    return build


def text_builder(encoder: TextEncoderFacts, folder: Path | None, option: str) -> Build:
    """For a text encoder."""

    def build(shapes: Shapes) -> nn.Module:
        from transformers import CLIPTextConfig, CLIPTextModel

        said: dict[str, Any] = text_settings(_config(folder, option) or {})
        configs.check_text_settings(said, _where(folder, option))
        facts = {name: said[name] for name in ("hidden_act", "num_attention_heads", "layer_norm_eps") if name in said}
        built: nn.Module = CLIPTextModel(CLIPTextConfig(**(configs.text_config(shapes, encoder, facts.get("num_attention_heads")) | facts)))
        return built

    return build


def _config(folder: Path | None, option: str) -> dict[str, Any] | None:
    return read_json(folder / "config.json", option) if folder else None


def _where(folder: Path | None, option: str) -> str:
    return f"{option} {folder / 'config.json'}" if folder else option
