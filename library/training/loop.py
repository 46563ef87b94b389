"""The loop: batches in, updates out, with saving, samples and logging hung onto it as events."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from library import seeds
from library.console import progress
from library.errors import UserError
from library.training.gradients import clipped_norm
from library.training.method import Method
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
) -> bool:
    """Train until `plan.updates`, moving `state` on; whether it got there (and was not stopped before).

    `task` and `optimizer` are prepared by `accelerator`; `schedule` is not (it is stepped once an update, whatever the
    number of processes); `batches(epoch, start)` gives this process's batches of that epoch from batch `start` on, of
    `length(epoch)` in all. When `stop()` says so on any process, all end after the same update, with `state` at its end.
    """
    if state.mean is None or state.mean.window != plan.updates_per_epoch:
        state.mean = RunningMean(plan.updates_per_epoch)
    mean = state.mean
    length = length or (lambda epoch: plan.batches_per_epoch)
    alone = accelerator.num_processes == 1
    ending = False
    waiting: _Pending | None = None
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    bar = progress(total=plan.updates, initial=state.step, label="steps", unit="step")
    events.before_training()
    clock = Stopwatch("data", "step", "other")
    task.train()

    def report(pending: _Pending | None) -> bool:
        """Tell of the update; whether a process was asked to stop when it was made."""
        if pending is None:
            return False
        loss = pending.read()
        clock.mark("step")
        average = mean.add(loss)
        bar.update(1)
        bar.set_postfix(loss=f"{loss:.4f}", avr_loss=f"{average:.4f}", refresh=False)
        events.on_update(UpdateReport(pending.step, pending.epoch, loss, average, pending.grad_norm, pending.extra))
        clock.mark("other")
        return pending.stop

    with contextlib.closing(bar):
        for epoch in range(state.epoch, plan.epochs):
            method.begin_epoch(epoch)
            for group in _groups(batches(epoch, state.position), plan.accumulation, lambda: alone and stop()):
                if alone and stop():
                    ending = True
                    break
                clock.mark("data")
                loss = _accumulate(accelerator, task, group, state, stop)
                norm = clipped_norm(accelerator, trained, max_grad_norm)
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
                clock.mark("step")
                ending = report(waiting) or (alone and stop())
                waiting = _Pending(torch.cat([loss, norm]), state.step, state.epoch, {**extra, **clock.take("seconds/")}, group)
                if ending or plan.is_save_step(state.step) or state.step >= plan.updates:
                    ending = report(waiting) or ending  # nothing is saved before its loss is known to be finite
                    waiting = None
                events.after_update(epoch + (1 if state.position >= length(epoch) else 0), state.step)
                clock.mark("other")
                if ending or state.step >= plan.updates or events.enough():
                    break
            ending = report(waiting) or ending or (alone and stop())
            waiting = None
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


def _accumulate(accelerator: Any, task: torch.nn.Module, group: list[Any], state: TrainState, stop: Callable[[], bool]) -> Tensor:
    """Forward and backward of the batches of one update; returns [2]: the mean loss over them and over the processes, and
    the share of processes that are asked to stop (which all have to know alike)."""
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
    if accelerator.num_processes == 1:
        return torch.stack([total, torch.zeros_like(total)])
    return accelerator.reduce(torch.stack([total, torch.full_like(total, float(stop()))]), "mean")


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


class _Pending:
    """Loss, share of processes asked to stop, and gradient norm of an update [3] on their way from the device."""

    def __init__(self, loss: Tensor, step: int, epoch: int, extra: Mapping[str, float], group: list[Any]):
        self.step, self.epoch, self.extra = step, epoch, extra
        self._paths = [path for batch in group for path in batch.paths]
        self._event = None
        self.stop, self.grad_norm = False, 0.0  # known when it was read
        if loss.is_cuda:
            self._loss = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
            self._loss.copy_(loss, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._loss = loss

    def read(self) -> float:
        """The loss; raises UserError with the images' names where it is not finite."""
        if self._event is not None:
            self._event.synchronize()
        value, stop, self.grad_norm = self._loss.tolist()
        self.stop = stop > 0
        if value != value or value in (float("inf"), float("-inf")):
            names = ", ".join(str(path) for path in self._paths)
            raise UserError(
                f"update {self.step}: the loss is {value}; the images were {names}. Nothing was saved from here on; "
                "lower --learning_rate, use --mixed_precision bf16 instead of fp16, or look at these images"
            )
        return value
