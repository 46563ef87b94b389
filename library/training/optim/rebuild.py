"""Builds a schedule again where its run goes on: from the rates that count now, and stepped to the update that is done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from library.training.optim.group_curves import GroupCurves
from library.training.optim.parts.rate_ratios import set_own_rates

# What schedules of torch keep in the groups, and so in an optimizer's state.
_KEPT_IN_GROUPS = frozenset({"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"})
_CYCLED = ("betas", "momentum")


@dataclass(frozen=True)
class Rebuild:
    """How to make a schedule of the command again.

    `build` makes it at its start; `groups` are the optimizer's as they were before it, and `added` the keys that it puts into them.
    """

    build: Callable[[], LRScheduler]
    groups: Sequence[Mapping[str, object]]
    added: frozenset[str]

    def at(self, optimizer: Optimizer, rates: Sequence[float], step: int) -> LRScheduler:
        """The schedule as it stands after `step` updates, on an optimizer whose groups come from a state; `rates` are the groups'."""
        for group, plain in zip(optimizer.param_groups, self.groups, strict=True):
            if "max_momentum" in group:  # the state's schedule moves the momentum, and another may leave it alone
                group.update({key: _uncycled(group[key], plain[key]) for key in _CYCLED if key in group and key in plain})
            for key in (_KEPT_IN_GROUPS | self.added) - (plain.keys() - {"initial_lr"}):
                group.pop(key, None)
        set_own_rates(optimizer, rates)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch misses the optimizer's steps, which are done
            schedule = self.build()
            if isinstance(schedule, GroupCurves):
                schedule.stand_at(step)
            else:
                for _ in range(step):
                    schedule.step()
        return schedule


def _uncycled(now: object, plain: object) -> object:
    """The momentum of the command; of betas the first alone is a momentum."""
    return (plain[0], *now[1:]) if isinstance(plain, tuple) and isinstance(now, list | tuple) else plain
