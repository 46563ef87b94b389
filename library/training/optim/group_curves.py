"""A named curve for each group of parameters, based on the group's own rate, so that its floor does not depend on other groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from library.errors import UserError, coded
from library.training.optim.parts.rate_ratios import own_rates, share_out

Build = Callable[[Optimizer], LambdaLR]  # a library's function of one optimizer; its floors are relative to the optimizer's default rate


class GroupCurves(LambdaLR):
    """The rate of each group: its own rate times its own curve. Optimizers with a single rate get each group's share of it."""

    def __init__(self, optimizer: Optimizer, build: Build) -> None:
        """`build` is called once per distinct rate, with an optimizer of that rate."""
        self.own_rates = own_rates(optimizer)
        # A part at rate 0 is not trained: it has no floor either.
        by_rate = {rate: _curve(build, rate) if rate else _still for rate in self.own_rates}
        super().__init__(optimizer, [by_rate[rate] for rate in self.own_rates])

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rates of the groups at update `last_epoch`, as the optimizer has them."""
        rates = [rate * curve(self.last_epoch) for rate, curve in zip(self.own_rates, self.lr_lambdas, strict=True)]
        share_out(self.optimizer, rates)
        return [group["lr"] for group in self.optimizer.param_groups]

    def stand_at(self, step: int) -> None:
        """Move to the position after `step` updates."""
        vars(self).update(last_epoch=step, _step_count=step + 1)  # attributes of torch's class
        vars(self).update(_last_lr=self.get_lr())


def _curve(build: Build, rate: float) -> Callable[[int], float]:
    curve: Callable[[int], float] = build(torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=rate)).lr_lambdas[0]
    return curve


def _still(step: int) -> float:
    return 1.0


def check_floor(what: str, floors: Mapping[str, float], optimizer: Optimizer, default: bool = False) -> None:
    """Raise UserError if one of `floors`, absolute rates by argument name, is above the rate of a part, or below 0.

    `what` names the schedule as on the command line; with `default` the floors are the curve's defaults.
    """
    for key, floor in floors.items():
        if isinstance(floor, bool) or not isinstance(floor, int | float):
            continue  # the schedule itself refuses it
        shown = f"{what} with --lr_scheduler_args {key}={floor:g}{' (the default)' if default else ''}: refused: "
        if not floor >= 0:
            raise UserError(coded("OPT-015", f"{shown}a learning rate cannot end below 0; use 0 or more"))
        low = [(rate, group) for rate, group in zip(own_rates(optimizer), optimizer.param_groups, strict=True) if 0 < rate < floor]
        if low:
            rate, group = min(low, key=lambda one: one[0])
            whose = f" of {group['name']}" if "name" in group else ""
            raise UserError(
                coded("OPT-015", f"{shown}the learning rate{whose} is {rate:g} and would rise to it; set {key} to at most {rate:g}")
            )


def check_share(what: str, shares: Mapping[str, float]) -> None:
    """Raise UserError if one of `shares` of the rate is not between 0 and 1."""
    for key, share in shares.items():
        if isinstance(share, int | float) and not 0 <= share <= 1:
            raise UserError(
                coded(
                    "OPT-015", f"{what} with --lr_scheduler_args {key}={share:g}: refused: is a fraction of the learning rate; use 0 to 1"
                )
            )
