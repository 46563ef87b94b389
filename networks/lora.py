"""LoRA for `--network_module networks.lora`: the functions that trainers import and the network they create."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from library.errors import UserError, coded
from library.lora.layers import STABLE_DIFFUSION, LoRALayer, Prefixes, TextEncoders
from library.lora.network import LoRANetwork, network_from_weights, new_network
from library.lora.variants.started_layer import STARTS
from library.options.suggest import closest
from library.words import cut


def create_network(
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    vae: object,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    neuron_dropout: float | None = None,
    prefixes: Prefixes = STABLE_DIFFUSION,
    init: object = None,
    **kwargs: object,
) -> LoRANetwork:
    """Create a network for the given parts, without effect at first; `kwargs` are the `--network_args`, `vae` is not used.

    `init` is the initialization of the factors: pissa, olora or orthogonal; None is random down and zero up. `network_dim` None means 4,
    `network_alpha` None or 0 means the rank. `text_encoder` is a list if the model has several; `prefixes` are the prefixes of the file's
    keys. Raises UserError with every invalid argument.
    """
    return new_network(_layer(init), multiplier, network_dim, network_alpha, text_encoder, unet, neuron_dropout, kwargs, prefixes)


def create_network_from_weights(
    multiplier: float,
    file: str | Path | None,
    vae: object,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    weights_sd: Mapping[str, Tensor] | None = None,
    for_inference: bool = False,
    prefixes: Prefixes = STABLE_DIFFUSION,
    init: object = None,
    **kwargs: object,
) -> tuple[LoRANetwork, dict[str, Tensor]]:
    """Create a network with the modules, ranks, alphas and weights of `file` (or `weights_sd`); returns it and the weights as read.

    `kwargs` may contain dropouts and block learning rates; `for_inference` ignores them. Raises UserError if the file does not fit.
    """
    if init is not None:
        what = f"--network_args init={init}: has no effect if the network is created from a file; remove it or --dim_from_weights"
        raise UserError(coded("LORA-007", what))
    return network_from_weights(LoRALayer, multiplier, file, text_encoder, unet, weights_sd, for_inference, kwargs, prefixes)


def _layer(init: object) -> type[LoRALayer]:
    if init is None:
        return LoRALayer
    if (name := str(init).strip().lower()) not in STARTS:
        near = closest(name, STARTS)
        hint = f"did you mean {near}?" if near else f"{', '.join(STARTS)} are expected, or remove it"
        raise UserError(coded("LORA-008", f"--network_args init={cut(str(init))}: unknown start; {hint}"))
    return STARTS[name]
