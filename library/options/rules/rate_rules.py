"""Errors and unusual combinations in the optimizer and the learning rates of the parts of a model."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.groups.scripts import FullModelScript, TrainNetwork
from library.options.rules.option_view import Given
from library.words import quoted

_NOTHING = "nothing would be trained (a learning rate of 0 turns a part off)"


def rates(given: Given) -> Iterator[Problem]:
    """Rates of 0 that leave nothing to train. (A network itself reports it for its blocks.)"""
    if given.network_module is not None:
        parts = [] if given.network_train_text_encoder_only else ["unet_lr"]
        parts += [] if given.network_train_unet_only or given.stop_text_encoder_training == -1 else ["text_encoder_lr"]
        if parts and all((given.learning_rate if getattr(given, part) is None else getattr(given, part)) == 0 for part in parts):
            field = next((part for part in parts if getattr(given, part) == 0), "learning_rate")
            yield coded("OPT-012", f"{given.at(field)}: {_NOTHING}; raise one of --learning_rate, --unet_lr, --text_encoder_lr")
        elif given.stop_text_encoder_training is not None:
            yield from _nothing_behind_the_stop(given)
    elif given.learning_rate == 0:
        if not given.learning_rate_te or given.train_text_encoder is False or given.stop_text_encoder_training == -1:
            more = "" if given.token_string is not None else ", or set --learning_rate_te to train the text encoder alone"
            yield coded("OPT-012", f"{given.at('learning_rate')}: {_NOTHING}; set a rate such as 2e-6{more}")
        elif given.stop_text_encoder_training is not None:
            yield coded(
                "OPT-012",
                f"{given.at('stop_text_encoder_training')}: ends the training of the text encoder, and with --learning_rate 0 "
                "nothing else is trained; remove it and end the run with --max_train_steps",
            )


def _nothing_behind_the_stop(given: Given) -> Iterator[Problem]:
    """A network whose text encoder part stops, with nothing else to train."""
    unet_lr = given.learning_rate if given.unet_lr is None else given.unet_lr
    alone = "--network_train_text_encoder_only" if given.network_train_text_encoder_only else "" if unet_lr else "a U-Net rate of 0"
    if alone:
        yield coded(
            "OPT-012",
            f"{given.at('stop_text_encoder_training')}: ends the training of the text encoder, and with {alone} nothing else is trained; "
            "remove it and end the run with --max_train_steps",
        )


def optimizer(given: Given) -> Iterator[Problem]:
    """There must be one optimizer, with valid arguments."""
    older = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}
    if given.use_8bit_adam and given.use_lion_optimizer:
        yield coded("OPT-008", f"{given.at('use_8bit_adam')}: cannot be used together with --use_lion_optimizer; choose one optimizer")
    for field, meant in older.items():
        if getattr(given, field) and given.optimizer_type and given.optimizer_type.lower() != meant.lower():
            yield coded("OPT-008", f"{given.at(field)}: means {meant}, but --optimizer_type is {given.optimizer_type}; remove one of them")
    for field in ("optimizer_args", "lr_scheduler_args", "network_args"):
        for part in getattr(given, field) or ():
            if not part.partition("=")[0].strip() or "=" not in part:
                yield coded("OPT-010", f"{given.at(field)}: expected key=value, not {quoted(part)} (no spaces around the equals sign)")


def rate_remarks(given: Given) -> Iterator[str]:
    """Rates that nothing uses."""
    if given.learning_rate_te and given.train_text_encoder is False:
        yield f"{given.at('learning_rate_te')}: has no effect without --train_text_encoder"
    if given.learning_rate_te and given.stop_text_encoder_training == -1:
        yield f"{given.at('learning_rate_te')}: has no effect with --stop_text_encoder_training -1"
    if given.stop_text_encoder_training == -1 and given.text_encoder_lr:
        yield f"{given.at('text_encoder_lr')}: has no effect with --stop_text_encoder_training -1"
    if given.stop_text_encoder_training is not None and given.network_train_unet_only:
        yield f"{given.at('stop_text_encoder_training')}: has no effect with --network_train_unet_only"
    if given.max_grad_norm_te is not None and not _trains_text_encoder(given) and not given.token_string:
        yield f"{given.at('max_grad_norm_te')}: has no effect, the text encoder is not trained"
    for rate, only in (("text_encoder_lr", "network_train_unet_only"), ("unet_lr", "network_train_text_encoder_only")):
        if getattr(given, rate) and getattr(given, only):
            yield f"{given.at(rate)}: has no effect with --{only}"


def _trains_text_encoder(given: Given) -> bool:
    return isinstance(given.options, TrainNetwork | FullModelScript) and given.options.trains_text_encoder
