"""Different learning rates for groups of parameters, with optimizers that find the rate themselves and accept a single one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from library.training.optim.parts.split_groups import PART, parts

# Both are keys of a group, so that they are saved with the optimizer's state.
RATIO = "rate_ratio"  # the group's share of the common rate
OWN_RATE = "own_rate"  # the rate that the command sets for the group, before any schedule


def give_one_rate(optimizer: Optimizer) -> bool:
    """Set every group's rate to the largest of its part and scale the updates of the others instead; return whether there are others.

    The D-Adaptation family and Prodigy refuse, or ignore, rates that differ. A group at r times the largest rate moves r times as far,
    which is equivalent for updates that are proportional to the rate. Costs a copy of such a group's parameters during a step. A rate of 0
    stays: these optimizers treat it as frozen.
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
    """The rate that the command sets for each group; 0.0 where the optimizer finds its own."""
    return [float(group[OWN_RATE]) if OWN_RATE in group else effective_rate(group) for group in optimizer.param_groups]


def set_own_rates(optimizer: Optimizer, rates: Sequence[float]) -> None:
    """Set these rates of the groups, as if the optimizer had been built with them."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group[OWN_RATE] = rate
    share_out(optimizer, rates)


def share_out(optimizer: Optimizer, rates: Sequence[float]) -> None:
    """Make each group train at its rate: by `lr`, or, where the optimizer has a single rate, by its share of the highest."""
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
            if highest > 0:  # in the first update of a warm-up all rates are 0: keep the shares
                group.pop(RATIO, None)
            group["lr"] = rate


def effective_rate(group: dict[str, Any]) -> float:
    """The rate that the group trains at, including its share; 0.0 before the first step if the optimizer finds the rate."""
    return float(group["lr"] or 0.0) * float(group.get(RATIO, 1.0))
