"""cosine_with_restarts with a floor, which the libraries' schedule lacks."""

from __future__ import annotations

from collections.abc import Callable

from diffusers.optimization import get_cosine_with_hard_restarts_schedule_with_warmup
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_with_restarts(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: int = 1,
    min_lr_ratio: float | None = None,
    last_epoch: int = -1,
) -> LambdaLR:
    """The curve c of diffusers (Loshchilov & Hutter 2017, eq. 5, with equal cycles), with a floor.

    After the warm-up it is m + (1 − m)·c, where m is the lowest share of the rate, so each cycle, and the run, ends at m.
    """
    plain: LambdaLR = get_cosine_with_hard_restarts_schedule_with_warmup(
        optimizer, num_warmup_steps, num_training_steps, num_cycles, last_epoch
    )
    if not min_lr_ratio:
        return plain
    return LambdaLR(optimizer, _floored(plain.lr_lambdas[0], num_warmup_steps, min_lr_ratio), last_epoch)


def _floored(curve: Callable[[int], float], warmup: int, floor: float) -> Callable[[int], float]:
    def floored(step: int) -> float:
        return curve(step) if step < warmup else floor + (1.0 - floor) * curve(step)

    return floored
