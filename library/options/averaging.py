"""Options of the moving average of what is trained."""

from __future__ import annotations

from dataclasses import dataclass

from library.options.declare import opt


@dataclass(frozen=True)
class AveragingOptions:
    """Average of the weights (EMA)"""

    ema_decay: float | None = opt(
        None,
        "Keep a moving average of the trained weights, steadier than they are, and save it beside each result as <name>-ema. "
        "0.999 averages over about the last 1000 steps; left out = off.",
        at_least=0,
        at_most=1,
    )
    ema_for_samples: bool = opt(False, "With --ema_decay: make sample images with the average.")
