"""The plan of a run: how many updates, epochs and saves there will be, known before the GPU starts, and how each figure is derived."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from library.words import counted


@dataclass(frozen=True)
class RunPlan:
    """Derived figures of a run; `updates` counts optimizer steps, `batches_per_epoch` those of one process."""

    batches_per_epoch: int
    accumulation: int
    updates_per_epoch: int
    updates: int
    epochs: int
    warmup: int
    save_epochs: tuple[int, ...]  # epochs (from 1) after which a file is saved
    save_steps: tuple[int, ...]  # updates (from 1) after which a file is saved
    named_steps: frozenset[int] = frozenset()  # those of `save_steps` that the command lists, which are never deleted

    def is_save_epoch(self, epoch: int) -> bool:
        """Whether a file is written after epoch `epoch`, counted from 1."""
        return epoch in self.save_epochs

    def is_save_step(self, step: int) -> bool:
        """Whether a file is written after update `step`, counted from 1."""
        return step in self.save_steps


@dataclass(frozen=True)
class Start:
    """Where a run continues: updates and epochs done, and batches left of the epoch in progress."""

    step: int
    epoch: int
    batches_left: int
    position: int = 0  # batches done of the epoch in progress


def steps_of(figure: float, updates: int) -> int:
    """A command line figure as updates: a number of updates, or below 1 a share of all updates (rounded down)."""
    return math.floor(figure * updates + 1e-9) if 0 < figure < 1 else int(figure)


def make_plan(
    batches_per_epoch: int,
    *,
    accumulation: int,
    max_train_steps: int,
    max_train_epochs: int | None,
    warmup: float,
    save_every_n_epochs: int | None,
    save_n_epoch_ratio: int | None,
    save_every_n_steps: int | None,
    save_at_steps: Collection[int] = (),
    save_from_epoch: int | None = None,
    start: Start | None = None,
) -> RunPlan:
    """Work out the figures. Epochs override steps; an accumulation group never extends into the next epoch.

    With `start` they are those of the whole run: what it did up to `start`, then what these settings ask for.
    """
    assert batches_per_epoch > 0
    start = start or Start(0, 0, batches_per_epoch)
    per_epoch = math.ceil(batches_per_epoch / accumulation)
    this_epoch_done = start.step + math.ceil(start.batches_left / accumulation)  # updates when the epoch in progress ends
    if max_train_epochs is None:
        updates = max_train_steps
    else:
        updates = max(start.step, this_epoch_done + (max_train_epochs - start.epoch - 1) * per_epoch)
    epochs = start.epoch + 1 + max(0, math.ceil((updates - this_epoch_done) / per_epoch))
    every = save_every_n_epochs
    if save_n_epoch_ratio:
        every = max(1, epochs // save_n_epoch_ratio)
    # Without the last epoch and update: the end of the run is saved under its own name.
    save_epochs = tuple(epoch for epoch in range(every, epochs, every) if epoch >= (save_from_epoch or 1)) if every else ()
    named = frozenset(step for step in save_at_steps if step < updates)
    save_steps = tuple(sorted(named.union(range(save_every_n_steps, updates, save_every_n_steps) if save_every_n_steps else ())))
    whole_warmup = steps_of(warmup, updates)
    return RunPlan(batches_per_epoch, accumulation, per_epoch, updates, epochs, whole_warmup, save_epochs, save_steps, named)


def plan_lines(plan: RunPlan, *, processes: int, max_train_epochs: int | None, start: Start | None = None, images: int = 0) -> list[str]:
    """The plan as lines for the user: each figure with its calculation. `images`: shown per epoch, with repeats; 0: unknown."""
    groups = f" / {plan.accumulation} batches per update, rounded up" if plan.accumulation > 1 else ""
    lines = [
        f"batches per epoch: {plan.batches_per_epoch}"
        + (f" (each of {processes} processes takes its share of every batch)" if processes > 1 else ""),
        f"updates per epoch: {plan.updates_per_epoch}" + (f" = {plan.batches_per_epoch}{groups}" if groups else ""),
    ]
    if start is not None:
        asked = "--max_train_steps" if max_train_epochs is None else f"--max_train_epochs {max_train_epochs}{_rest(plan, start)}"
        lines.append(f"updates: {plan.updates} = {start.step} done + {plan.updates - start.step} to do ({asked})")
    elif max_train_epochs is not None:
        lines.append(f"updates: {plan.updates} = {counted(plan.epochs, 'epoch')} (--max_train_epochs) × {plan.updates_per_epoch}")
    else:
        rest = plan.updates % plan.updates_per_epoch
        end = f", the last one ends after {rest} of {plan.updates_per_epoch} updates" if rest else ""
        lines.append(f"updates: {plan.updates} (--max_train_steps), {counted(plan.epochs, 'epoch')}{end}")
    lines += _images_shown(plan, images, start or Start(0, 0, 0))
    if plan.warmup:
        short = ", more than the run has: the full rate is never reached" if plan.warmup >= plan.updates else ""
        lines.append(f"learning rate warm-up: {counted(plan.warmup, 'update')}{short}")
    first = start or Start(-1, -1, 0)
    saves = [
        _named("epoch", [epoch for epoch in plan.save_epochs if epoch > first.epoch]),
        _named("update", [step for step in plan.save_steps if step > first.step]),
    ]
    lines.append("saves: " + "; ".join([text for text in saves if text] + ["at the end"]))
    return lines


def _rest(plan: RunPlan, start: Start) -> str:
    """The updates that a resumed run has to do: those of the epoch in progress, then whole epochs."""
    inside, epoch = math.ceil(start.batches_left / plan.accumulation), start.epoch + 1
    whole = plan.epochs - epoch
    if inside == plan.updates_per_epoch:
        return f": {counted(whole + 1, 'epoch')} × {inside}, from epoch {epoch} on"
    parts = [f"{inside} in epoch {epoch}"] if inside else []
    parts += [f"{counted(whole, 'epoch')} × {plan.updates_per_epoch}"] if whole > 0 else []
    return f": {' + '.join(parts)}" if parts else ""


def _images_shown(plan: RunPlan, images: int, start: Start) -> list[str]:
    """How many images, with repeats, the rest of the run shows."""
    if not images:
        return []
    updates = plan.updates - start.step
    if updates % plan.updates_per_epoch:
        return [f"images shown: about {round(images * updates / plan.updates_per_epoch):,} in {counted(updates, 'update')}"]
    epochs = updates // plan.updates_per_epoch
    return [f"images shown: {images * epochs:,} = {images:,} per epoch × {counted(epochs, 'epoch')}"]


def _named(what: str, numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    several = len(numbers) > 7
    shown = ", ".join(map(str, numbers[:5] if several else numbers)) + (f", …, {numbers[-1]} ({len(numbers)} in all)" if several else "")
    return f"after {what} {shown}"
