"""LoRA-FA for `--network_module networks.lora_fa`: LoRA whose random down matrices stay fixed, so that only the up matrices are trained.

A frozen down needs no gradient, no optimizer state and, of its layer's input, no stored activation (Zhang et al. 2023). The file is an
ordinary LoRA's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from library.errors import UserError, coded
from library.lora.layers import STABLE_DIFFUSION, LoRALayer, Prefixes, TextEncoders
from library.lora.network import LoRANetwork, network_from_weights, new_network


class FrozenDownLayer(LoRALayer):
    """A LoRA layer of which only `lora_up` is trained."""

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
    """As `networks.lora.create_network_from_weights`; the file may be any LoRA; its down matrices are kept."""
    _refuse_plus(kwargs)
    return network_from_weights(FrozenDownLayer, multiplier, file, text_encoder, unet, weights_sd, for_inference, kwargs, prefixes)


def _refuse_plus(args: Mapping[str, object]) -> None:
    """LoRA+ sets separate rates for up and down; here only the up matrices are trained."""
    wrong = [key for key in args if key.startswith("loraplus_")]
    if wrong:
        raise UserError(
            coded(
                "LORA-007",
                f"--network_args {wrong[0]}: has no effect with networks.lora_fa, which does not train down matrices; raise --unet_lr",
            )
        )
