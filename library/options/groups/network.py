"""Options of the network (LoRA) that train_network.py trains."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.bounds import LARGEST_DIM, MOST_RATE, MOST_RATIO, MOST_STEPS, MOST_WEIGHT
from library.options.declare import Leniency, opt
from library.options.groups.optimizer import norm_of_text_encoder


@dataclass(frozen=True)
class NetworkOptions:
    """The network that is trained"""

    network_module: str | None = opt(
        None,
        "Kind of network: networks.lora, networks.dora, networks.dylora, networks.lora_fa, or another package's, such as lycoris.kohya. "
        "Always needed.",
    )
    network_dim: int | None = opt(
        None,
        "Rank of the LoRA: 4 to 128. A higher rank can learn more and makes a larger file. Default: the module's (4).",
        at_least=1,
        at_most=LARGEST_DIM,
    )
    network_alpha: float = opt(
        1.0,
        "Scales the LoRA by alpha / dim. With alpha = dim the learning rate applies as is; 1 dampens it.",
        at_least=0,
        at_most=MOST_WEIGHT,
    )
    network_dropout: float | None = opt(
        None,
        "Fraction of the LoRA's inner values that is dropped in each update, 0 to 1; 0.1 against overfitting.",
        at_least=0,
        at_most=1,
    )
    network_args: tuple[str, ...] = opt(
        (),
        "More settings of the network as key=value, separated by spaces: conv_dim=4 conv_alpha=1",
    )
    network_weights: str | None = opt(None, "Continue training this network file.", path="file")
    dim_from_weights: bool = opt(False, "Take rank and alpha from --network_weights instead of --network_dim and --network_alpha.")
    network_train_unet_only: bool = opt(False, "Train the U-Net part only.")
    network_train_text_encoder_only: bool = opt(False, "Train the text encoder part only.")
    unet_lr: float | None = opt(None, "Learning rate of the U-Net part, if different from --learning_rate.", at_least=0, at_most=MOST_RATE)
    text_encoder_lr: float | None = opt(
        None,
        "Learning rate of the text encoder part; often half of the U-Net's. If several are given, the first is used.",
        at_least=0,
        at_most=MOST_RATE,
        leniency=Leniency(first_of_several=True),
    )
    stop_text_encoder_training: int | None = opt(
        None,
        "Train the text encoder part for this many updates only, then the U-Net part alone; -1 = never train it. Default: throughout.",
        at_least=-1,
        at_most=MOST_STEPS,
    )
    max_grad_norm_te: float | None = norm_of_text_encoder()
    scale_weight_norms: float | None = opt(
        None,
        "Keep the weight norm of each module below this, against overfitting; 1 is a good start.",
        at_least=0,
        at_most=MOST_WEIGHT,
    )
    base_weights: tuple[str, ...] = opt(
        (), "Network files to merge into the model before training.", path="file", leniency=Leniency(no_values=True)
    )
    base_weights_multiplier: tuple[float, ...] = opt(
        (),
        "Strength at which each of --base_weights is merged, in the same order. Default: 1.",
        at_least=-MOST_RATIO,
        at_most=MOST_RATIO,
    )
