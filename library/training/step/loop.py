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
from library.method import Method
from library.training.optim.gradients import clipped_norm
from library.training.planning.plan import RunPlan
from library.training.states.state import RunningMean, TrainState
from library.training.step.guard import Guard
from library.training.step.pending import Pending
from library.training.step.stopwatch import Stopwatch


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


@dataclass(kw_only=True)
class Loop:
    """Trains until `plan.updates`, moving `state` on.

    `task` and `optimizer` are prepared by `accelerator`; `schedule` is not (it is stepped once an update, whatever the
    number of processes); `batches(epoch, start)` gives this process's batches of that epoch from batch `start` on, of
    `length(epoch)` in all (`plan.batches_per_epoch` unless told otherwise). When `stop()` says so on any process, all end after the
    same update, with `state` at its end; `save()`, asked once an update, has them save there. `guard` judges figures; without one a
    loss that is not finite ends the run.
    """

    accelerator: Any
    task: torch.nn.Module
    method: Method
    optimizer: Any
    schedule: Any
    batches: Callable[[int, int], Iterable[Any]]
    plan: RunPlan
    state: TrainState
    max_grad_norm: float
    events: Events
    length: Callable[[int], int] | None = None
    stop: Callable[[], bool] = lambda: False
    save: Callable[[], bool] = lambda: False
    guard: Guard | None = None

    def run(self) -> bool:
        """Whether the end was reached (and the run was not stopped before)."""
        state, plan = self.state, self.plan
        if state.mean is None or state.mean.window != plan.updates_per_epoch:
            state.mean = RunningMean(plan.updates_per_epoch)
        self._trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self._ending = self._saving = False
        self._waiting: Pending | None = None  # a loss is read one update later than it was computed, so that the device never waits
        self._bar = progress(total=plan.updates, initial=state.step, label="steps", unit="step")
        with contextlib.closing(self._bar):
            self.events.before_training()
            self._clock = Stopwatch("data", "step", "other")
            self.task.train()
            if self.guard is not None:
                self.guard.begin(state)
            return self._epochs()

    def _epochs(self) -> bool:
        state = self.state
        while state.epoch < self.plan.epochs:
            epoch = state.epoch
            if not self._epoch(epoch):  # the run went back, maybe into another epoch
                self._ending, self._waiting = False, None
                self._bar.n = state.step
                continue
            whole = state.position >= self._length(epoch)
            if self.events.enough() and not whole:
                break
            if self._ending and not self._is_through():
                return False  # also at an epoch's end: what is due there is done when the run goes on
            if whole:
                state.epoch, state.position, state.cuts = epoch + 1, 0, ()
            self.events.after_epoch(epoch + 1, state.step)
            self._clock.mark("other")
            if self._is_through():
                break
        return True

    def _epoch(self, epoch: int) -> bool:
        """The rest of an epoch, or less where the run ends in it; False when the run went back instead."""
        self.method.begin_epoch(epoch)
        for group in _groups(self.batches(epoch, self.state.position), self.plan.accumulation, self._is_asked_to_stop):
            if self._is_asked_to_stop():
                self._ending = True
                break
            self._clock.mark("data")
            if not self._update(group):
                return False
            if self._ending or self._is_through():
                break
        self._report()
        self._ending = self._ending or self._is_asked_to_stop()
        return self._holds(self._ending or self.events.enough() or self.plan.is_save_epoch(epoch + 1))

    def _update(self, group: list[Any]) -> bool:
        """One update and what is due after it; False when the run went back instead."""
        state, plan, alone = self.state, self.plan, self.accelerator.num_processes == 1
        pending = _accumulate(self.accelerator, self.task, group, state, self.stop, self.save)
        pending.send(clipped_norm(self.accelerator, self._trained, self.max_grad_norm))
        refused = self.guard is not None and self.guard.refuses(pending, state)
        if refused:
            self._report()
            _forget_gradients(self.accelerator, self.optimizer, self.max_grad_norm)
            if self.guard.goes_back(pending, state):
                return False
            self._bar.update(1)
        else:
            self._step(pending)
        if self.method.trains_text_encoder(state.step) and not self.method.trains_text_encoder(state.step + 1):
            _forget_frozen(self.optimizer)
        state.step += 1
        state.position += len(group)
        self._clock.mark("step")
        self._report()
        self._ending = self._ending or self._is_asked_to_stop()
        pending.extra = {**pending.extra, **self._clock.take("seconds/")}
        self._waiting = None if refused else pending
        self._saving = self._saving or (alone and pending.save)
        due = self._ending or self._saving or plan.is_save_step(state.step) or state.step >= plan.updates
        if due:
            self._report()  # nothing is saved before its loss is known to be finite
        if not self._holds(due):
            return False
        epochs = state.epoch + (1 if state.position >= self._length(state.epoch) else 0)
        self.events.after_update(epochs, state.step)
        if self._saving:
            self.events.on_demand(epochs, state.step)
            self._saving = False
        self._clock.mark("other")
        return True

    def _step(self, pending: Pending) -> None:
        """Move the weights by the gradients that are there."""
        self.optimizer.step()
        rates = self.events.rates()
        pending.overflow = self.optimizer.step_was_skipped  # fp16: the scaler found an overflow and lowers its scale
        if not pending.overflow:
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        pending.extra = {**rates, **self.method.after_step(self.state.step)}

    def _report(self) -> None:
        """Tell of the update that waits for it, if one does, and hear what was asked for when it was made."""
        pending, self._waiting = self._waiting, None
        if pending is None:
            return
        figures = pending.read()
        self._clock.mark("step")
        check(pending, self.guard)
        average = self.state.mean.add(figures.loss)
        self._bar.update(1)
        self._bar.set_postfix(loss=f"{figures.loss:.4f}", avr_loss=f"{average:.4f}", refresh=False)
        self.events.on_update(UpdateReport(pending.step, pending.epoch, figures.loss, average, figures.gradient, pending.extra))
        self._clock.mark("other")
        self._saving = self._saving or figures.save
        self._ending = self._ending or figures.stop

    def _holds(self, due: bool) -> bool:
        return self.guard is None or self.guard.holds(self.state, due)

    def _length(self, epoch: int) -> int:
        return self.plan.batches_per_epoch if self.length is None else self.length(epoch)

    def _is_through(self) -> bool:
        return self.state.step >= self.plan.updates or self.events.enough()

    def _is_asked_to_stop(self) -> bool:
        """With several processes the figures of an update tell it to all alike."""
        return self.accelerator.num_processes == 1 and self.stop()


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
