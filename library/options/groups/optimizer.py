"""Options of the optimizer, the learning rate schedule and the average of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from library.options.bounds import MOST_RATE, MOST_STEPS, MOST_WEIGHT
from library.options.declare import opt


def norm_of_text_encoder() -> Any:
    """--max_grad_norm_te, for the groups of scripts that may train a text encoder together with the U-Net."""
    return opt(
        None,
        "Clip the gradients of the text encoder to this norm separately, and those of the U-Net separately to --max_grad_norm. 0 = "
        "never clip. Default: both together.",
        at_least=0,
        at_most=MOST_WEIGHT,
    )


@dataclass(frozen=True)
class OptimizerOptions:
    """Optimizer and learning rate"""

    optimizer_type: str = opt(
        "",
        "AdamW (default), AdamW8bit, PagedAdamW8bit, Lion, Lion8bit, PagedLion8bit, SGDNesterov, SGDNesterov8bit, "
        "DAdaptation (= DAdaptAdamPreprint), DAdaptAdam, DAdaptAdaGrad, DAdaptAdan, DAdaptAdanIP, DAdaptLion, DAdaptSGD, "
        "Prodigy, AdaFactor, "
        "a class of torch.optim, or module.Class. Upper and lower case do not matter for the listed ones.",
    )
    use_8bit_adam: bool = opt(False, "Older form of --optimizer_type AdamW8bit.")
    use_lion_optimizer: bool = opt(False, "Older form of --optimizer_type Lion.")
    learning_rate: float = opt(
        2e-6,
        "How far each update moves the weights. LoRA is usually trained at 1e-4; D-Adaptation and Prodigy expect 1.0, a factor "
        "on the rate they find.",
        at_least=0,
        at_most=MOST_RATE,
    )
    max_grad_norm: float = opt(1.0, "Clip gradients to this norm. 0 = never clip.", at_least=0, at_most=MOST_WEIGHT)
    optimizer_args: tuple[str, ...] = opt(
        (),
        "More settings of the optimizer as key=value, separated by spaces: weight_decay=0.01 betas=.9,.999",
    )
    lr_scheduler: str = opt(
        "constant",
        "How the learning rate changes during training: constant, constant_with_warmup, linear, cosine, cosine_with_restarts, "
        "polynomial, adafactor, inverse_sqrt, cosine_with_min_lr, warmup_stable_decay, piecewise_constant.",
    )
    lr_scheduler_type: str = opt("", "A custom scheduler class instead: a class of torch.optim.lr_scheduler, or module.Class.")
    lr_scheduler_args: tuple[str, ...] = opt(
        (), "Settings for --lr_scheduler or --lr_scheduler_type as key=value.", aliases=("scheduler_args",)
    )
    lr_warmup_steps: int = opt(
        0,
        "Updates over which the learning rate rises from 0 to its full value: a number of updates, or a fraction of the run such as 0.05.",
        at_least=0,
        at_most=MOST_STEPS,
        also_fraction=True,
    )
    lr_decay_steps: int = opt(
        0,
        "Steps at the run's end over which warmup_stable_decay lowers the rate: a number, or a fraction of the run. 0 = a tenth of it.",
        at_least=0,
        at_most=MOST_STEPS,
        also_fraction=True,
    )
    lr_scheduler_num_cycles: int = opt(1, "How many times cosine_with_restarts starts over.", at_least=1, at_most=MOST_STEPS)
    lr_scheduler_power: float = opt(1.0, "Power of the polynomial scheduler; 1 = a straight line.", at_least=0, at_most=1000)
    lr_scheduler_min_lr_ratio: float | None = opt(
        None,
        "The rate at which cosine_with_min_lr, warmup_stable_decay and each cycle of cosine_with_restarts end, as a share of the learning "
        "rate.",
        at_least=0,
        at_most=1,
    )
    lr_scheduler_timescale: int | None = opt(
        None,
        "How fast inverse_sqrt falls: the rate is halved after three times this many updates. Default: the length of the warm-up.",
        at_least=1,
        at_most=MOST_STEPS,
    )


@dataclass(frozen=True)
class AveragingOptions:
    """Average of the weights (EMA)"""

    ema_decay: float | None = opt(
        None,
        "Keep a moving average of the trained weights, steadier than the weights, and save it next to each result as <name>-ema. "
        "0.999 averages over about the last 1000 updates. Default: off.",
        at_least=0,
        at_most=1,
    )
    ema_for_samples: bool = opt(False, "With --ema_decay: generate sample images with the average.")
