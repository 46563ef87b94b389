"""DoRA for `--network_module networks.dora`: LoRA that trains the magnitude of each weight separately from its direction (Liu et al. 2024).

Files have the usual keys: those of a LoRA and `dora_scale`, which LyCORIS, ComfyUI, Forge and Diffusers read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from library.errors import UserError, coded
from library.lora.layers import STABLE_DIFFUSION, Prefixes, TextEncoders
from library.lora.network import LoRANetwork, network_from_weights, new_network
from library.lora.settings import yes_or_no
from library.lora.variants.dora_layer import DORA_TENSORS, DoRALayer, InputDoRALayer
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
    wd_on_output: object = True,
    **kwargs: object,
) -> LoRANetwork:
    """As `networks.lora.create_network`; `wd_on_output`, as in LyCORIS, gives a magnitude to each output (True) or each input."""
    return new_network(_layer(wd_on_output), multiplier, network_dim, network_alpha, text_encoder, unet, neuron_dropout, kwargs, prefixes)


def create_network_from_weights(
    multiplier: float,
    file: str | Path | None,
    vae: object,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    weights_sd: Mapping[str, Tensor] | None = None,
    for_inference: bool = False,
    prefixes: Prefixes = STABLE_DIFFUSION,
    wd_on_output: object = True,
    **kwargs: object,
) -> tuple[LoRANetwork, dict[str, Tensor]]:
    """As `networks.lora.create_network_from_weights`, for DoRAs along either axis, including PEFT's; a plain LoRA starts unchanged."""
    layer = _layer(wd_on_output)
    return network_from_weights(
        layer, multiplier, file, text_encoder, unet, weights_sd, for_inference, kwargs, prefixes, kinds=DORA_TENSORS
    )


def _layer(on_output: object) -> type[DoRALayer]:
    try:
        return DoRALayer if yes_or_no(str(on_output)) else InputDoRALayer
    except ValueError as fault:
        raise UserError(coded("LORA-008", f"--network_args wd_on_output={cut(str(on_output))}: {fault}")) from fault
