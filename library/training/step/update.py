"""One update: the gradients of a group of batches, and the weights that they move."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from library import seeds
from library.data.loading.batch import Batch
from library.method import Method
from library.training.optim.optimizer import logged_rates
from library.training.optim.parts.gradients import GradientLimits, clipped_norm, parts_of
from library.training.processes import PreparedOptimizer, Processes
from library.training.states.state import TrainState
from library.training.step.pending import Pending, ShownGroup
from library.training.step.requests import Requests
from library.training.step.task import DiffusionTask


class Gradients:
    """Accumulates them in `task`, which accelerate has prepared."""

    def __init__(self, processes: Processes, task: nn.Module, state: TrainState, requests: Requests) -> None:
        self.task = task
        self._processes, self._state, self._requests = processes, state, requests

    def accumulate(self, group: Sequence[Batch]) -> Pending:
        """Forward and backward of the batches of one update, with the mean loss over them and over the processes, and the shares of
        processes that are asked to stop and to save (which all have to know alike)."""
        total, per_image = None, []
        for place, batch in enumerate(group):
            self._seed(place)
            is_last = place == len(group) - 1
            with contextlib.nullcontext() if is_last else self._processes.no_sync(self.task):
                loss, losses = self.task(batch.to(self._processes.device), self._state.step)
                self._processes.backward(loss / len(group))
            share = loss.detach() / len(group)
            total = share if total is None else total + share
            per_image.append(losses)
        assert total is not None
        stop, save = self._requests.seen()
        figures = torch.stack(
            [total, torch.full_like(total, float(stop)), torch.full_like(total, float(save)), *_by_target(group, per_image)]
        )
        if self._processes.num_processes > 1:
            figures = self._processes.reduce(figures, "mean")
        shown = ShownGroup(group, per_image, partial(_timesteps, self._processes, self.task))
        return Pending(self._state.step + 1, self._state.epoch, shown, figures)

    def _seed(self, place: int) -> None:
        """Dropout inside networks draws from torch's own stream: seeded here, it depends on the place in the run alone."""
        drawn = seeds.fold(self._state.seed, "network", self._state.step, place, self._processes.process_index)
        torch.manual_seed(drawn & 0xFFFF_FFFF_FFFF)


class Weights:
    """What is trained and what moves it. `optimizer` is prepared by accelerate; `schedule` is not: it is stepped once an update, whatever
    the number of processes."""

    def __init__(
        self, processes: Processes, method: Method, optimizer: PreparedOptimizer, schedule: LRScheduler, limits: GradientLimits
    ) -> None:
        self.method = method
        self._processes, self._optimizer, self._schedule = processes, optimizer, schedule
        self._trained: list[nn.Parameter] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._parts = parts_of(self._trained, method.text_encoder_parameters() if limits.text_encoder is not None else (), limits)
        self._names = [str(group.get("name", place)) for place, group in enumerate(optimizer.param_groups)]

    def clip(self) -> Tensor:
        """Limit the gradients; returns their norm [1] as it was."""
        return clipped_norm(self._processes, self._parts)

    def move(self, pending: Pending) -> None:
        """Move the weights by the gradients that are there."""
        self._optimizer.step()
        rates = logged_rates(self._optimizer, self._names)  # of this very update
        pending.overflow = self._optimizer.step_was_skipped  # fp16: the scaler found an overflow and lowers its scale
        if not pending.overflow:
            self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        pending.extra = {**rates, **self.method.after_step(pending.step - 1)}

    def leave(self) -> None:
        """Leave the update out whose gradients are there."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._processes.scaler is not None and any(
            part.limit for part in self._parts
        ):  # it has seen the gradients and waits for its update
            self._processes.scaler.update()

    def release_frozen(self) -> None:
        """Give back the optimizer's memory of what has had its last update."""
        for parameter in self._trained:
            if not parameter.requires_grad:
                self._optimizer.state.pop(parameter, None)


def _by_target(group: Sequence[Batch], per_image: Sequence[Tensor]) -> list[Tensor]:
    """Of draws whose target is the base model's prediction, and of the others: the sum of their losses [], and their number; nothing where
    batches do not say which they are. A draw of weight 0 only fills a process's turn."""
    if any(batch.prior is None for batch in group):
        return []
    prior = torch.cat([batch.prior for batch in group if batch.prior is not None])
    losses = torch.cat(list(per_image))
    counted = torch.cat([batch.loss_weights for batch in group]) > 0
    shares = [(mask & counted).to(losses.device, losses.dtype, non_blocking=True) for mask in (prior, ~prior)]
    return [figure for share in shares for figure in ((losses * share).sum(), share.sum())]


def _timesteps(processes: Processes, task: nn.Module, batch: Batch) -> list[int]:
    return cast(DiffusionTask, processes.unwrap_model(task)).timestep_numbers(batch)  # which may be compiled, and so of another class
