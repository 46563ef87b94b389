"""Estimates the disk space for the saves and states of a run, before it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from library.console import log
from library.errors import UserError, coded
from library.files import free_bytes
from library.method import Method
from library.training.optim.optimizer_table import parameter_state_bytes
from library.training.planning.plan import RunPlan, Start
from library.training.saving.checkpointer import SaveKind
from library.training.saving.full_disk import MARGIN, FullDiskPolicy
from library.words import counted, in_words

if TYPE_CHECKING:  # disk_need imports this file before torch
    import torch
    from torch import nn
    from torch.optim import Optimizer

    from library.method import Method
    from library.model.bundle import StableDiffusion


@dataclass(frozen=True)
class Save:
    """A save written after update `step`, and the paths that are removed once it is complete."""

    step: int
    kind: SaveKind
    path: Path
    outdated: tuple[Path, ...]


def saves(plan: RunPlan, kinds: Sequence[SaveKind], start: Start | None = None) -> Iterator[Save]:
    """Yield all saves of a run from `start` on, in writing order."""
    begun = start or Start(0, 0, plan.batches_per_epoch)
    first_end = begun.step + -(-begun.batches_left // plan.accumulation)
    moments = [(step, 0) for step in plan.save_steps if step > begun.step]
    for epoch in plan.save_epochs:
        if epoch > begun.epoch:
            moments.append((first_end + (epoch - begun.epoch - 1) * plan.updates_per_epoch, epoch))
    for step, epoch in sorted(moments):
        for kind in (kind for kind in kinds if kind.rule.with_saves):
            if epoch:
                yield Save(step, kind, kind.names.epoch(epoch), tuple(kind.outdated_epochs(plan, epoch)))
            else:
                yield Save(step, kind, kind.names.step(step), tuple(kind.outdated_steps(plan, step)))
    for kind in kinds:
        yield Save(plan.updates, kind, kind.names.last(), ())


def most_bytes(coming: Iterable[Save]) -> int:
    """Return the peak size on the disk in bytes: a new save is complete before an old one is removed."""
    standing: dict[Path, int] = {}
    most = 0
    for save in coming:
        most = max(most, sum(standing.values()) + save.kind.bytes)
        standing[save.path] = save.kind.bytes
        for path in save.outdated:
            standing.pop(path, None)
    return most


def check_room(plan: RunPlan, kinds: Sequence[SaveKind], start: Start | None, policy: FullDiskPolicy, free: int | None = None) -> str:
    """Return a line for the plan; warns if the saves do not fit but `policy` can skip them or put them into another folder.

    Raises UserError if they do not fit and neither is possible.
    """
    folder = kinds[0].names.folder
    coming = list(saves(plan, kinds, start))
    sizes = [
        f"{counted(sum(save.kind is kind for save in coming), kind.what.removesuffix('s'))} of about {in_words(kind.bytes)}"
        for kind in kinds
    ]
    need, free = most_bytes(coming) + MARGIN, free_bytes(folder) if free is None else free
    line = f"disk: {' and '.join(sizes)}, at most {in_words(need)} at a time, {in_words(free)} free"
    if need > free:
        problem = f"--output_dir {folder}: not enough space for what this run saves ({line.removeprefix('disk: ')})"
        fewer = "save less often, keep fewer with --save_last_n_epochs 2 or --save_last_n_steps"
        remedy = f"{fewer}, choose another folder, or name a second one with --spare_dir"
        if policy.spare is not None and free_bytes(policy.spare) >= need:
            log.warning(f"{problem}; saves that do not fit will go to --spare_dir {policy.spare}")
        elif not policy.go_on:
            raise UserError(coded("DISK-001", f"{problem}; {remedy}; or start anyway with --on_full_disk continue"))
        else:
            log.warning(f"{problem}; saves that do not fit will be skipped (--on_full_disk continue)")
    return line


def file_bytes(method: Method, model: StableDiffusion, dtype: torch.dtype | None) -> int:
    """Estimate the size of the product in bytes: the whole model if its weights are trained, otherwise what the method adds."""
    whole = cast("list[nn.Module]", [model.unet, *model.text_encoders, model.vae])  # diffusers' types are not torch's for mypy
    return sum(
        tensor.numel() * (dtype.itemsize if dtype is not None else tensor.element_size())
        for module in (whole if method.full_precision else method.modules())
        for tensor in module.state_dict().values()
    )


def state_size(method: Method, optimizer: Optimizer, name: str) -> int:
    """Estimate the size of a state in bytes: trained weights and what the optimizer called `name` stores for them."""
    weights: int = sum(tensor.numel() * tensor.element_size() for module in method.modules() for tensor in module.state_dict().values())
    parameters = [parameter.numel() for group in optimizer.param_groups for parameter in group["params"]]
    return weights + round(sum(parameter_state_bytes(name, values) for values in parameters))
