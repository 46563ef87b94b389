"""The loop: batches in, updates out, with saving, samples and logging hung onto it as events."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from library import seeds
from library.console import progress
from library.errors import UserError
from library.training.method import Method
from library.training.plan import RunPlan
from library.training.state import TrainState


@dataclass(frozen=True)
class UpdateReport:
    """What is known after an update: `losses` are means over the update's images, weighted as they are trained."""

    step: int  # updates done
    epoch: int  # epochs done before this one
    loss: float
    average: float  # of the last updates_per_epoch updates
    extra: Mapping[str, float]


@dataclass
class Events:
    """What others do at the loop's joints. Each is called on every process; who acts is their own affair."""

    on_update: Callable[[UpdateReport], None] = lambda report: None
    rates: Callable[[], Mapping[str, float]] = dict  # asked between optimizer and schedule: the learning rates of this very update
    before_training: Callable[[], None] = lambda: None
    after_update: Callable[[int, int], None] = lambda epochs, step: None  # epochs done, updates done
    after_epoch: Callable[[int, int], None] = lambda epochs, step: None


@dataclass
class RunningMean:
    """Mean of the last `window` losses, so that early ones do not weigh on the figure for ever."""

    window: int
    values: list[float] = field(default_factory=list)
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> float:
        """Take `value` in and return the mean."""
        if len(self.values) < self.window:
            self.values.append(value)
        else:
            place = self.count % self.window
            self.total -= self.values[place]
            self.values[place] = value
        self.count += 1
        self.total += value
        return self.total / len(self.values)


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
) -> None:
    """Train until `plan.updates`, moving `state` on.

    `task` and `optimizer` are prepared by `accelerator`; `schedule` is not (it is stepped once an update, whatever the
    number of processes); `batches(epoch, start)` gives this process's batches of that epoch from batch `start` on.
    """
    mean = RunningMean(plan.updates_per_epoch)
    waiting: _Pending | None = None
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    bar = progress(total=plan.updates, initial=state.step, label="steps", unit="step")
    events.before_training()
    task.train()

    def report(pending: _Pending | None) -> None:
        if pending is None:
            return
        loss = pending.read()
        average = mean.add(loss)
        bar.update(1)
        bar.set_postfix(loss=f"{loss:.4f}", avr_loss=f"{average:.4f}", refresh=False)
        events.on_update(UpdateReport(pending.step, pending.epoch, loss, average, pending.extra))

    with contextlib.closing(bar):
        for epoch in range(state.epoch, plan.epochs):
            method.begin_epoch(epoch)
            for group in _groups(batches(epoch, state.position), plan.accumulation):
                loss = _accumulate(accelerator, task, group, state)
                if accelerator.sync_gradients and max_grad_norm:
                    accelerator.clip_grad_norm_(trained, max_grad_norm)
                optimizer.step()
                rates = events.rates()
                if not optimizer.step_was_skipped:  # fp16: the scaler found an overflow and lowers its scale
                    schedule.step()
                optimizer.zero_grad(set_to_none=True)
                extra = {**rates, **method.after_step(state.step)}
                if method.trains_text_encoder(state.step) and not method.trains_text_encoder(state.step + 1):
                    _forget_frozen(optimizer)
                state.step += 1
                state.position += len(group)
                # A loss is read one update later than it was computed, so that the device never waits for the screen.
                report(waiting)
                waiting = _Pending(loss, state.step, state.epoch, extra, group)
                if plan.is_save_step(state.step) or state.step >= plan.updates:
                    report(waiting)  # nothing is saved before its loss is known to be finite
                    waiting = None
                events.after_update(epoch + (1 if state.position >= plan.batches_per_epoch else 0), state.step)
                if state.step >= plan.updates:
                    break
            report(waiting)
            waiting = None
            if state.position >= plan.batches_per_epoch:
                state.epoch, state.position = epoch + 1, 0
            events.after_epoch(epoch + 1, state.step)


def _accumulate(accelerator: Any, task: torch.nn.Module, group: list[Any], state: TrainState) -> Tensor:
    """Forward and backward of the batches of one update; returns the mean loss over them and over the processes [()]."""
    total = None
    for place, batch in enumerate(group):
        # Dropout inside networks draws from torch's own stream: seeded here, it depends on the place in the run alone.
        torch.manual_seed(seeds.fold(state.seed, "network", state.step, place, accelerator.process_index) & 0xFFFF_FFFF_FFFF)
        is_last = place == len(group) - 1
        with contextlib.nullcontext() if is_last else accelerator.no_sync(task):
            loss, _ = task(batch.to(accelerator.device), state.step)
            accelerator.backward(loss / len(group))
        share = loss.detach() / len(group)
        total = share if total is None else total + share
    assert total is not None
    return accelerator.reduce(total, "mean") if accelerator.num_processes > 1 else total


def _forget_frozen(optimizer: Any) -> None:
    """Give back the memory of the optimizer's values for parameters that are trained no longer."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not parameter.requires_grad:
                optimizer.state.pop(parameter, None)


def _groups(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Accumulation groups of `size` batches; the last one of an epoch may be shorter."""
    iterator = iter(batches)
    while group := list(itertools.islice(iterator, size)):
        yield group


class _Pending:
    """A loss on its way from the device."""

    def __init__(self, loss: Tensor, step: int, epoch: int, extra: Mapping[str, float], group: list[Any]):
        self.step, self.epoch, self.extra = step, epoch, extra
        self._paths = [path for batch in group for path in batch.paths]
        self._event = None
        if loss.is_cuda:
            self._loss = torch.empty((), dtype=loss.dtype, pin_memory=True)
            self._loss.copy_(loss, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._loss = loss

    def read(self) -> float:
        """The loss; raises UserError with the images' names where it is not finite."""
        if self._event is not None:
            self._event.synchronize()
        value = float(self._loss)
        if value != value or value in (float("inf"), float("-inf")):
            names = ", ".join(str(path) for path in self._paths)
            raise UserError(
                f"update {self.step}: the loss is {value}; the images were {names}. Nothing was saved from here on; "
                "lower --learning_rate, use --mixed_precision bf16 instead of fp16, or look at these images"
            )
        return value
