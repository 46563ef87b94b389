"""The learning rates of the parts of a model that a command trains, known before the model is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from library.options.groups.scripts import FineTune, TrainDb, TrainingScript, TrainNetwork


def part_rates(options: TrainingScript) -> Mapping[str, float]:
    """The rate of each part under its name in the log; parts at rate 0 are not trained and are left out.

    Blocks of a network may have other rates, which `NetworkMethod` knows once the network exists.
    """
    common = options.optimizer.learning_rate
    rates: dict[str, float | None] = {"all": common}
    if isinstance(options, TrainNetwork):
        network = options.network
        rates = {
            "unet": 0.0 if network.network_train_text_encoder_only else network.unet_lr,
            "textencoder": network.text_encoder_lr if options.trains_text_encoder else 0.0,
        }
    elif isinstance(options, TrainDb | FineTune):
        rates = {"unet": common, "textencoder": options.trained.learning_rate_te if options.trains_text_encoder else 0.0}
    if isinstance(options, TrainNetwork) and options.new_words is not None:
        rates["embedding"] = options.words.embedding_lr
    rates = {name: common if rate is None else rate for name, rate in rates.items()}
    return {name: rate for name, rate in rates.items() if rate} or {"all": common}
