"""Different learning rates for groups of parameters with optimizers that find the rate themselves and want one for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from library.training.optim.parts.split_groups import PART, parts

# Both stand in the group, so that they are saved with the optimizer's state.
RATIO = "rate_ratio"  # the share that a group takes of the one rate
OWN_RATE = "own_rate"  # the rate that the command gives the group, before any schedule


def give_one_rate(optimizer: Optimizer) -> bool:
    """Set every group's rate to the largest one of its part and let the others take their share of each update instead; whether any had to.

    The D-Adaptation family and Prodigy refuse, or overlook, rates that differ. A group at r times the largest rate moves r times as
    far, which for updates that are proportional to the rate is the same thing. Costs a copy of such a group's parameters during a
    step. A rate of 0 stays: these optimizers know it as frozen.
    """
    for part in parts(optimizer.param_groups):
        highest = max(group["lr"] for group in part)
        for group in part:
            if 0 < group["lr"] < highest:
                group[RATIO] = group["lr"] / highest
                group["lr"] = group["initial_lr"] = highest
    if not any(RATIO in group for group in optimizer.param_groups):
        return False
    before: list[tuple[float, torch.Tensor, torch.Tensor]] = []

    @torch.no_grad()
    def remember(stepping: Optimizer, *_: object) -> None:
        sharing = [group for group in stepping.param_groups if RATIO in group]
        before[:] = [(group[RATIO], p, p.clone()) for group in sharing for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def take_share(*_: object) -> None:
        for ratio, parameter, old in before:
            parameter.copy_(torch.lerp(old, parameter, ratio))
        before.clear()

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(take_share)
    return True


def own_rates(optimizer: Optimizer) -> list[float]:
    """The rate that the command gives each group; 0.0 where the optimizer has its own."""
    return [float(group[OWN_RATE]) if OWN_RATE in group else effective_rate(group) for group in optimizer.param_groups]


def set_own_rates(optimizer: Optimizer, rates: Sequence[float]) -> None:
    """Give the groups these rates, as if the optimizer had been built with them."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group[OWN_RATE] = rate
    share_out(optimizer, rates)


def share_out(optimizer: Optimizer, rates: Sequence[float]) -> None:
    """Let each group train at its rate: by `lr`, or, where the optimizer has one rate for all, by its share of the highest."""
    shared = any(RATIO in group for group in optimizer.param_groups)
    most: dict[str, float] = {}
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        most[group.get(PART, "")] = max(rate, most.get(group.get(PART, ""), 0.0))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        highest = most[group.get(PART, "")]
        if shared and rate < highest and (rate > 0 or RATIO in group):
            group[RATIO] = rate / highest
            group["lr"] = highest
        else:
            if highest > 0:  # in a warm-up's first update all rates are 0, and the shares wait
                group.pop(RATIO, None)
            group["lr"] = rate


def effective_rate(group: dict[str, Any]) -> float:
    """The rate that the group trains at, its share included; 0.0 while an optimizer of its own rate has not made a step."""
    return float(group["lr"] or 0.0) * float(group.get(RATIO, 1.0))
