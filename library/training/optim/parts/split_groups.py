"""A rate per part of a model, for optimizers that find a single rate for all: `--optimizer_args split_groups=True`."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch.optim import Optimizer

PART = "part"  # key of a group, and so in an optimizer's state: groups of one part share a rate


def parts(groups: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The groups by part, in their order; a single part if the groups name none."""
    by_part: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        by_part.setdefault(group.get(PART, ""), []).append(group)
    return list(by_part.values())


def part_of_group(name: str) -> str:
    """The part of a model that a group belongs to: `unet` for `unet`, `unet_IN04` and `unet_plus`."""
    return name.partition("_")[0]


def splits_groups(optimizer: Optimizer) -> bool:
    """Whether its class comes from `with_split_groups`."""
    return bool(getattr(optimizer, "splits_groups", False))


@functools.cache
def with_split_groups(kind: type[Optimizer]) -> type[Optimizer]:
    """The optimizer class `kind`, which steps each part as if it had only that part.

    For classes that store everything they find in their groups and in the state of parameters, as Prodigy does (Mishchenko & Defazio 2023,
    alg. 4): d, its numerator and its count are then separate for each part.
    """

    class PartByPart(kind):  # type: ignore[valid-type,misc]  # base class known only at run time
        splits_groups = True

        @torch.no_grad()
        def step(self, closure: object = None) -> None:
            assert closure is None, "training on batches has no closure"
            held: dict[str, Any] = self.__dict__
            every = held["param_groups"]
            try:
                for part in parts(every):
                    held["param_groups"] = part
                    super().step()
            finally:
                held["param_groups"] = every

    PartByPart.__name__, PartByPart.__qualname__, PartByPart.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return PartByPart
