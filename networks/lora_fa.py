"""LoRA-FA for `--network_module networks.lora_fa`: LoRA with fixed random down matrices; only the up matrices are trained.

A frozen down matrix needs no gradient, no optimizer state and no stored input activation of its layer (Zhang et al. 2023). The file is an
ordinary LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from library.errors import UserError, coded
from library.lora.layers import STABLE_DIFFUSION, LoRALayer, Prefixes, TextEncoders
from library.lora.network import LoRANetwork, network_from_weights, new_network


class FrozenDownLayer(LoRALayer):
    """A LoRA layer that trains only `lora_up`."""

    def trained(self) -> list[nn.Parameter]:
        """`lora_up.weight` alone."""
        return list(self.lora_up.parameters())


def create_network(
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    vae: object,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    neuron_dropout: float | None = None,
    prefixes: Prefixes = STABLE_DIFFUSION,
    **kwargs: object,
) -> LoRANetwork:
    """As `networks.lora.create_network`, with the same arguments."""
    _refuse_plus(kwargs)
    return new_network(FrozenDownLayer, multiplier, network_dim, network_alpha, text_encoder, unet, neuron_dropout, kwargs, prefixes)


def create_network_from_weights(
    multiplier: float,
    file: str | Path | None,
    vae: object,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    weights_sd: Mapping[str, Tensor] | None = None,
    for_inference: bool = False,
    prefixes: Prefixes = STABLE_DIFFUSION,
    **kwargs: object,
) -> tuple[LoRANetwork, dict[str, Tensor]]:
    """As `networks.lora.create_network_from_weights`; the file may be any LoRA, whose down matrices stay fixed."""
    _refuse_plus(kwargs)
    return network_from_weights(FrozenDownLayer, multiplier, file, text_encoder, unet, weights_sd, for_inference, kwargs, prefixes)


def _refuse_plus(args: Mapping[str, object]) -> None:
    """Refuse LoRA+: it sets separate rates for up and down, and here only the up matrices are trained."""
    wrong = [key for key in args if key.startswith("loraplus_")]
    if wrong:
        raise UserError(
            coded(
                "LORA-007",
                f"--network_args {wrong[0]}: has no effect with networks.lora_fa, which does not train down matrices; raise --unet_lr",
            )
        )
