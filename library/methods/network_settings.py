"""The settings of the network in `train_network.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from library.methods.network_package import key_values
from library.options.groups.scripts import TrainNetwork


@dataclass(frozen=True)
class NetworkSettings:
    """The settings of the network in `train_network.py`; names are those of its options."""

    module: str
    dim: int | None
    alpha: float
    dropout: float | None
    args: Mapping[str, str]
    weights: Path | None
    dim_from_weights: bool
    train_unet: bool
    train_text_encoder: bool
    learning_rate: float
    unet_lr: float | None
    text_encoder_lr: float | None
    scale_weight_norms: float | None
    base_weights: Sequence[tuple[Path, float]]
    gradient_checkpointing: bool
    text_encoder_updates: int | None = None  # after which the text encoder's part is frozen; None: it is trained throughout
    keeps_base: bool = False  # the network can be detached for a pass, for `as_before`
    splits_norm: bool = False  # gradients of the text encoder's part are clipped separately
    new_words: tuple[str, ...] = ()  # trained in addition to the network


def network_settings(options: TrainNetwork) -> NetworkSettings:
    """The settings from the options of train_network.py."""
    network = options.network
    assert network.network_module is not None  # ensured by `check`
    multipliers = [*network.base_weights_multiplier, *[1.0] * len(network.base_weights)]
    return NetworkSettings(
        module=network.network_module,
        dim=network.network_dim,
        alpha=network.network_alpha,
        dropout=network.network_dropout,
        args=key_values(network.network_args),
        weights=None if network.network_weights is None else Path(network.network_weights),
        dim_from_weights=network.dim_from_weights,
        train_unet=not network.network_train_text_encoder_only,
        train_text_encoder=options.trains_text_encoder,
        text_encoder_updates=network.stop_text_encoder_training,
        keeps_base=options.data.prior_from_base is not None,
        splits_norm=network.max_grad_norm_te is not None,
        new_words=tuple(word.text for word in options.words.words),
        learning_rate=options.optimizer.learning_rate,
        unet_lr=network.unet_lr,
        text_encoder_lr=network.text_encoder_lr,
        scale_weight_norms=network.scale_weight_norms,
        base_weights=[(Path(file), multiplier) for file, multiplier in zip(network.base_weights, multipliers, strict=False)],
        gradient_checkpointing=options.training.gradient_checkpointing,
    )
