"""The loop: batches in, updates out, with saving, samples and logging hung onto it as events."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from library import seeds
from library.console import progress
from library.errors import UserError
from library.training.gradients import clipped_norm
from library.training.guard import Guard
from library.training.method import Method
from library.training.pending import Pending
from library.training.plan import RunPlan
from library.training.state import RunningMean, TrainState
from library.training.stopwatch import Stopwatch


@dataclass(frozen=True)
class UpdateReport:
    """What is known after an update: `losses` are means over the update's images, weighted as they are trained."""

    step: int  # updates done
    epoch: int  # epochs done before this one
    loss: float
    average: float  # of the last updates_per_epoch updates
    grad_norm: float  # of all that is trained together, before it was clipped
    extra: Mapping[str, float]


@dataclass
class Events:
    """What others do at the loop's joints. Each is called on every process; who acts is their own affair."""

    on_update: Callable[[UpdateReport], None] = lambda report: None
    rates: Callable[[], Mapping[str, float]] = dict  # asked between optimizer and schedule: the learning rates of this very update
    before_training: Callable[[], None] = lambda: None
    after_update: Callable[[int, int], None] = lambda epochs, step: None  # epochs done, updates done
    on_demand: Callable[[int, int], None] = lambda epochs, step: None  # somebody asked to save
    after_epoch: Callable[[int, int], None] = lambda epochs, step: None
    enough: Callable[[], bool] = lambda: False  # asked after an update and after an epoch: whether the run ends there, as if it were done


def train(
    *,
    accelerator: Any,
    task: torch.nn.Module,
    method: Method,
    optimizer: Any,
    schedule: Any,
    batches: Callable[[int, int], Iterable[Any]],
    plan: RunPlan,
    state: TrainState,
    max_grad_norm: float,
    events: Events,
    length: Callable[[int], int] | None = None,
    stop: Callable[[], bool] = lambda: False,
    save: Callable[[], bool] = lambda: False,
    guard: Guard | None = None,
) -> bool:
    """Train until `plan.updates`, moving `state` on; whether it got there (and was not stopped before).

    `task` and `optimizer` are prepared by `accelerator`; `schedule` is not (it is stepped once an update, whatever the
    number of processes); `batches(epoch, start)` gives this process's batches of that epoch from batch `start` on, of
    `length(epoch)` in all. When `stop()` says so on any process, all end after the same update, with `state` at its end; `save()`,
    asked once an update, has them save there. `guard` judges figures; without one a loss that is not finite ends the run.
    """
    if state.mean is None or state.mean.window != plan.updates_per_epoch:
        state.mean = RunningMean(plan.updates_per_epoch)
    length = length or (lambda epoch: plan.batches_per_epoch)
    alone = accelerator.num_processes == 1
    ending = saving = False
    waiting: Pending | None = None
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    bar = progress(total=plan.updates, initial=state.step, label="steps", unit="step")
    events.before_training()
    clock = Stopwatch("data", "step", "other")
    task.train()
    if guard is not None:
        guard.begin(state)

    def report(pending: Pending | None) -> bool:
        """Tell of the update; whether a process was asked to stop when it was made."""
        nonlocal saving
        if pending is None:
            return False
        figures = pending.read()
        clock.mark("step")
        check(pending, guard)
        average = state.mean.add(figures.loss)
        bar.update(1)
        bar.set_postfix(loss=f"{figures.loss:.4f}", avr_loss=f"{average:.4f}", refresh=False)
        events.on_update(UpdateReport(pending.step, pending.epoch, figures.loss, average, figures.gradient, pending.extra))
        clock.mark("other")
        saving = saving or figures.save
        return figures.stop

    with contextlib.closing(bar):
        while state.epoch < plan.epochs:
            epoch, back = state.epoch, False
            method.begin_epoch(epoch)
            for group in _groups(batches(epoch, state.position), plan.accumulation, lambda: alone and stop()):
                if alone and stop():
                    ending = True
                    break
                clock.mark("data")
                pending = _accumulate(accelerator, task, group, state, stop, save)
                pending.send(clipped_norm(accelerator, trained, max_grad_norm))
                refused = guard is not None and guard.refuses(pending, state)
                if refused:
                    report(waiting)
                    waiting = None
                    _forget_gradients(accelerator, optimizer, max_grad_norm)
                    back = guard.goes_back(pending, state)
                    if back:
                        break
                    bar.update(1)
                else:
                    optimizer.step()
                    rates = events.rates()
                    pending.overflow = optimizer.step_was_skipped  # fp16: the scaler found an overflow and lowers its scale
                    if not pending.overflow:
                        schedule.step()
                    optimizer.zero_grad(set_to_none=True)
                    pending.extra = {**rates, **method.after_step(state.step)}
                if method.trains_text_encoder(state.step) and not method.trains_text_encoder(state.step + 1):
                    _forget_frozen(optimizer)
                state.step += 1
                state.position += len(group)
                # A loss is read one update later than it was computed, so that the device never waits for the screen.
                clock.mark("step")
                ending = report(waiting) or (alone and stop())
                pending.extra = {**pending.extra, **clock.take("seconds/")}
                waiting = None if refused else pending
                saving = saving or (alone and pending.save)
                due = ending or saving or plan.is_save_step(state.step) or state.step >= plan.updates
                if due:
                    ending = report(waiting) or ending  # nothing is saved before its loss is known to be finite
                    waiting = None
                if guard is not None and not guard.holds(state, due):
                    back = True
                    break
                epochs = epoch + (1 if state.position >= length(epoch) else 0)
                events.after_update(epochs, state.step)
                if saving:
                    events.on_demand(epochs, state.step)
                    saving = False
                clock.mark("other")
                if ending or state.step >= plan.updates or events.enough():
                    break
            if not back:
                ending = report(waiting) or ending or (alone and stop())
                waiting = None
                back = guard is not None and not guard.holds(state, ending or events.enough() or plan.is_save_epoch(epoch + 1))
            if back:
                ending, waiting = False, None
                bar.n = state.step
                continue
            if events.enough() and state.position < length(epoch):
                break  # inside an epoch, which is not over
            if ending and state.step < plan.updates and not events.enough():
                return False  # also at an epoch's end: what is due there is done when the run goes on
            if state.position >= length(epoch):
                state.epoch, state.position, state.cuts = epoch + 1, 0, ()
            events.after_epoch(epoch + 1, state.step)
            clock.mark("other")
            if state.step >= plan.updates or events.enough():
                break
    return True


def check(pending: Pending, guard: Guard | None) -> None:
    """Raise UserError where the figures are not finite and nobody has a better answer."""
    if guard is not None:
        guard.check(pending)
    elif not math.isfinite(pending.read().loss):
        raise UserError(f"update {pending.step}: the loss is {pending.read().loss}; lower --learning_rate")


def _accumulate(
    accelerator: Any, task: torch.nn.Module, group: list[Any], state: TrainState, stop: Callable[[], bool], save: Callable[[], bool]
) -> Pending:
    """Forward and backward of the batches of one update, with the mean loss over them and over the processes, and the shares of
    processes that are asked to stop and to save (which all have to know alike)."""
    total, per_image = None, []
    for place, batch in enumerate(group):
        # Dropout inside networks draws from torch's own stream: seeded here, it depends on the place in the run alone.
        torch.manual_seed(seeds.fold(state.seed, "network", state.step, place, accelerator.process_index) & 0xFFFF_FFFF_FFFF)
        is_last = place == len(group) - 1
        with contextlib.nullcontext() if is_last else accelerator.no_sync(task):
            loss, losses = task(batch.to(accelerator.device), state.step)
            accelerator.backward(loss / len(group))
        share = loss.detach() / len(group)
        total = share if total is None else total + share
        per_image.append(losses)
    assert total is not None
    here = save()  # looks for files, so it comes first
    figures = torch.stack([total, torch.full_like(total, float(stop())), torch.full_like(total, float(here))])
    if accelerator.num_processes > 1:
        figures = accelerator.reduce(figures, "mean")
    timesteps = partial(_timesteps, accelerator, task)
    return Pending(state.step + 1, state.epoch, group, figures, per_image, timesteps, here)


def _timesteps(accelerator: Any, task: torch.nn.Module, batch: Any) -> Tensor:
    return accelerator.unwrap_model(task).drawn_timesteps(batch)


def _forget_gradients(accelerator: Any, optimizer: Any, limit: float) -> None:
    """Leave an update out after its gradients are there."""
    optimizer.zero_grad(set_to_none=True)
    if accelerator.scaler is not None and limit:  # it has seen the gradients and waits for its update
        accelerator.scaler.update()


def _forget_frozen(optimizer: Any) -> None:
    """Give back the memory of the optimizer's values for parameters that are trained no longer."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not parameter.requires_grad:
                optimizer.state.pop(parameter, None)


def _groups(batches: Iterable[Any], size: int, stop: Callable[[], bool]) -> Iterator[list[Any]]:
    """Accumulation groups of `size` batches; the last one of an epoch may be shorter."""
    iterator = iter(batches)
    while True:
        try:
            group = list(itertools.islice(iterator, size))
        except UserError:
            if stop():  # the signal has ended a loader worker too
                return
            raise
        if not group:
            return
        yield group
