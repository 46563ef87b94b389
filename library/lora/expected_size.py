"""The number of weights of this suite's networks, from the options and the model's header, before torch is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from library.options.groups.network import NetworkOptions


class RankOne(Protocol):
    """Weights of a LoRA of rank 1 on the parts of a model."""

    @property
    def lora_unet(self) -> int:
        """On the U-Net's attention."""

    @property
    def lora_text_encoder(self) -> int:
        """On the text encoder."""

    @property
    def lora_wide(self) -> int:
        """On the U-Net's 3×3 convolutions, which `conv_dim` adds."""

    @property
    def lora_extended(self) -> int:
        """On the rest of the U-Net that `conv_dim` adds."""


def low_rank_weights(options: NetworkOptions, sizes: RankOne) -> int:
    """Count the weights of a network with one rank for all blocks; ignores `block_dims` and `network_reg_dims`."""
    args = dict(part.split("=", 1) for part in options.network_args if "=" in part)
    dim, conv_dim = options.network_dim or 4, args.get("conv_dim", "0")
    count = 0 if options.network_train_text_encoder_only else sizes.lora_unet * dim
    if count and conv_dim.isdecimal() and len(conv_dim) < 9 and int(conv_dim):
        count += sizes.lora_wide * int(conv_dim) + sizes.lora_extended * dim
    return count + (0 if options.network_train_unet_only or options.stop_text_encoder_training == -1 else sizes.lora_text_encoder * dim)


# --network_module -> its rule. All of its weights are trained; modules without a row are unknown in advance.
RULES: dict[str, Callable[[NetworkOptions, RankOne], int]] = {"networks.lora": low_rank_weights}


def ranks_in_file(options: NetworkOptions) -> int:
    """Return rank in the file / trained rank: 2 if the file subtracts its start (pissa, olora), otherwise 1."""
    args = dict(part.split("=", 1) for part in options.network_args if "=" in part)
    return 2 if args.get("init", "").strip().lower() in ("pissa", "olora") else 1
