"""LoRA for `--network_module networks.lora`: the names that trainers import and the network that they get."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from library.lora.layers import STABLE_DIFFUSION, LoRALayer, Prefixes, TextEncoders
from library.lora.network import LoRANetwork, network_from_weights, new_network


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
    """A new network that changes nothing yet, for the parts given; `kwargs` is `--network_args`, `vae` is not used.

    `network_dim` None means 4, `network_alpha` None or 0 the same as the rank. `text_encoder` is a list where the model has several;
    `prefixes` says how the file's keys begin. UserError lists every fault of the arguments.
    """
    return new_network(LoRALayer, multiplier, network_dim, network_alpha, text_encoder, unet, neuron_dropout, kwargs, prefixes)


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
    """A network with the modules, ranks, alphas and weights of `file` (or of `weights_sd`), and the weights as read.

    `kwargs` may hold dropouts and block learning rates; `for_inference` leaves them out. UserError where the file does not fit.
    """
    return network_from_weights(LoRALayer, multiplier, file, text_encoder, unet, weights_sd, for_inference, kwargs, prefixes)
