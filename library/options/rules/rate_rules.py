"""Errors and unusual combinations in the optimizer and the learning rates of the parts of a model."""

from __future__ import annotations

from collections.abc import Iterator

from library.errors import Problem, coded
from library.options.groups.scripts import FullModelScript, TrainNetwork
from library.options.rules.option_view import OptionView
from library.words import quoted

_NOTHING = "nothing would be trained (a learning rate of 0 turns a part off)"


def rates(options: OptionView) -> Iterator[Problem]:
    """Rates of 0 that leave nothing to train. (A network itself reports it for its blocks.)"""
    if options.network_module is not None:
        parts = [] if options.network_train_text_encoder_only else ["unet_lr"]
        parts += [] if options.network_train_unet_only or options.stop_text_encoder_training == -1 else ["text_encoder_lr"]
        if parts and all((options.learning_rate if getattr(options, part) is None else getattr(options, part)) == 0 for part in parts):
            field = next((part for part in parts if getattr(options, part) == 0), "learning_rate")
            yield coded("OPT-012", f"{options.at(field)}: {_NOTHING}; raise one of --learning_rate, --unet_lr, --text_encoder_lr")
        elif options.stop_text_encoder_training is not None:
            yield from _nothing_behind_the_stop(options)
    elif options.learning_rate == 0:
        if not options.learning_rate_te or options.train_text_encoder is False or options.stop_text_encoder_training == -1:
            more = "" if options.token_string is not None else ", or set --learning_rate_te to train the text encoder alone"
            yield coded("OPT-012", f"{options.at('learning_rate')}: {_NOTHING}; set a rate such as 2e-6{more}")
        elif options.stop_text_encoder_training is not None:
            yield coded(
                "OPT-012",
                f"{options.at('stop_text_encoder_training')}: ends the training of the text encoder, and with --learning_rate 0 "
                "nothing else is trained; remove it and end the run with --max_train_steps",
            )


def _nothing_behind_the_stop(options: OptionView) -> Iterator[Problem]:
    """A network whose text encoder part stops, with nothing else to train."""
    unet_lr = options.learning_rate if options.unet_lr is None else options.unet_lr
    alone = "--network_train_text_encoder_only" if options.network_train_text_encoder_only else "" if unet_lr else "a U-Net rate of 0"
    if alone:
        yield coded(
            "OPT-012",
            f"{options.at('stop_text_encoder_training')}: ends the training of the text encoder, and with {alone} nothing else is trained; "
            "remove it and end the run with --max_train_steps",
        )


def optimizer(options: OptionView) -> Iterator[Problem]:
    """There must be one optimizer, with valid arguments."""
    older = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}
    if options.use_8bit_adam and options.use_lion_optimizer:
        yield coded("OPT-008", f"{options.at('use_8bit_adam')}: cannot be used together with --use_lion_optimizer; choose one optimizer")
    for field, meant in older.items():
        if getattr(options, field) and options.optimizer_type and options.optimizer_type.lower() != meant.lower():
            yield coded(
                "OPT-008", f"{options.at(field)}: means {meant}, but --optimizer_type is {options.optimizer_type}; remove one of them"
            )
    for field in ("optimizer_args", "lr_scheduler_args", "network_args"):
        for part in getattr(options, field) or ():
            if not part.partition("=")[0].strip() or "=" not in part:
                yield coded("OPT-010", f"{options.at(field)}: expected key=value, not {quoted(part)} (no spaces around the equals sign)")


def rate_remarks(options: OptionView) -> Iterator[str]:
    """Rates that nothing uses."""
    if options.learning_rate_te and options.train_text_encoder is False:
        yield f"{options.at('learning_rate_te')}: has no effect without --train_text_encoder"
    if options.learning_rate_te and options.stop_text_encoder_training == -1:
        yield f"{options.at('learning_rate_te')}: has no effect with --stop_text_encoder_training -1"
    if options.stop_text_encoder_training == -1 and options.text_encoder_lr:
        yield f"{options.at('text_encoder_lr')}: has no effect with --stop_text_encoder_training -1"
    if options.stop_text_encoder_training is not None and options.network_train_unet_only:
        yield f"{options.at('stop_text_encoder_training')}: has no effect with --network_train_unet_only"
    if options.max_grad_norm_te is not None and not _trains_text_encoder(options) and not options.token_string:
        yield f"{options.at('max_grad_norm_te')}: has no effect, the text encoder is not trained"
    for rate, only in (("text_encoder_lr", "network_train_unet_only"), ("unet_lr", "network_train_text_encoder_only")):
        if getattr(options, rate) and getattr(options, only):
            yield f"{options.at(rate)}: has no effect with --{only}"


def _trains_text_encoder(options: OptionView) -> bool:
    return isinstance(options.script, TrainNetwork | FullModelScript) and options.script.trains_text_encoder
