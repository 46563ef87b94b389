"""Rebuilds a schedule when its run resumes: from the current rates, advanced to the last update that is done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from library.training.optim.group_curves import GroupCurves
from library.training.optim.parts.rate_ratios import set_own_rates

# What torch's schedules store in the groups, and so in an optimizer's state.
_KEPT_IN_GROUPS = frozenset({"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"})
_CYCLED = ("betas", "momentum")


@dataclass(frozen=True)
class Rebuild:
    """How to build a schedule of the command again.

    `build` builds it at its start; `groups` are the optimizer's groups before that, and `added` the keys that it adds to them.
    """

    build: Callable[[], LRScheduler]
    groups: Sequence[Mapping[str, object]]
    added: frozenset[str]

    def at(self, optimizer: Optimizer, rates: Sequence[float], step: int) -> LRScheduler:
        """The schedule after `step` updates, on an optimizer whose groups come from a state; `rates` are the rates of the groups."""
        for group, plain in zip(optimizer.param_groups, self.groups, strict=True):
            if "max_momentum" in group:  # the state's schedule changed the momentum; the new one may not set it
                group.update({key: _uncycled(group[key], plain[key]) for key in _CYCLED if key in group and key in plain})
            for key in (_KEPT_IN_GROUPS | self.added) - (plain.keys() - {"initial_lr"}):
                group.pop(key, None)
        set_own_rates(optimizer, rates)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of missing optimizer steps, which are already done
            schedule = self.build()
            if isinstance(schedule, GroupCurves):
                schedule.stand_at(step)
            else:
                for _ in range(step):
                    schedule.step()
        return schedule


def _uncycled(now: object, plain: object) -> object:
    """The momentum of the command; of betas only the first is a momentum."""
    return (plain[0], *now[1:]) if isinstance(plain, tuple) and isinstance(now, list | tuple) else plain
