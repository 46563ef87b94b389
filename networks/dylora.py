"""DyLoRA for `--network_module networks.dylora`: one run trains LoRAs of all ranks (Valipour et al. 2023, "frozen" variant).

In each pass each layer draws a rank b and uses its first b components, of which only the last `unit` are trained, so the first
components learn to work without the later ones. `networks/extract_lora_from_dylora.py` writes LoRAs of lower ranks. The file is an
ordinary LoRA of the full rank.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from library.errors import UserError, coded
from library.lora.layers import STABLE_DIFFUSION, Dropouts, LoRALayer, Patched, Prefixes, TextEncoders
from library.lora.network import LoRANetwork, network_from_weights, new_network


class DyLoRALayer(LoRALayer):
    """A LoRA layer that trains at a new random rank in each pass, and otherwise works like an ordinary one.

    With b of n components the sum is scaled by alpha/n · √(n/b), so that few components are about as strong as all, as in other DyLoRA
    implementations. The draw uses torch's global random state, as dropout does; gradient checkpointing replays it.
    """

    shares_down = False  # each layer draws its own components

    def __init__(
        self, module: Patched, rank: int, alpha: float, multiplier: float = 1.0, dropouts: Dropouts | None = None, unit: int = 1
    ) -> None:
        if rank % unit:
            raise UserError(
                coded(
                    "LORA-008",
                    f"--network_args unit={unit}: rank {rank} is not a multiple of it; choose multiples for --network_dim and conv_dim",
                )
            )
        super().__init__(module, rank, alpha, multiplier, dropouts)
        self.unit = unit

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
        down, up, factor = super()._factors(dtype)
        if not self.training:
            return down, up, factor
        first = int(torch.randint(self.rank // self.unit, ())) * self.unit
        end = first + self.unit
        down = torch.cat([down[:first].detach(), down[first:end]])
        up = torch.cat([up[:, :first].detach(), up[:, first:end]], dim=1)
        return down, up, factor * math.sqrt(self.rank / end)


def create_network(
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    vae: object,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    neuron_dropout: float | None = None,
    prefixes: Prefixes = STABLE_DIFFUSION,
    unit: object = 1,
    **kwargs: object,
) -> LoRANetwork:
    """As `networks.lora.create_network`; `unit` is the number of components trained together, and the step between ranks."""
    layer = functools.partial(DyLoRALayer, unit=_unit(unit))
    return new_network(layer, multiplier, network_dim, network_alpha, text_encoder, unet, neuron_dropout, kwargs, prefixes)


def create_network_from_weights(
    multiplier: float,
    file: str | Path | None,
    vae: object,
    text_encoder: TextEncoders,
    unet: nn.Module | None,
    weights_sd: Mapping[str, Tensor] | None = None,
    for_inference: bool = False,
    prefixes: Prefixes = STABLE_DIFFUSION,
    unit: object = 1,
    **kwargs: object,
) -> tuple[LoRANetwork, dict[str, Tensor]]:
    """As `networks.lora.create_network_from_weights`."""
    layer = functools.partial(DyLoRALayer, unit=_unit(unit))
    return network_from_weights(layer, multiplier, file, text_encoder, unet, weights_sd, for_inference, kwargs, prefixes)


def _unit(text: object) -> int:
    try:
        unit = int(str(text))
    except ValueError:
        unit = 0
    if unit < 1:
        raise UserError(coded("LORA-008", f"--network_args unit={text}: a whole number of at least 1 is expected"))
    return unit
