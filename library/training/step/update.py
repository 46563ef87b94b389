"""One update: the gradients of a group of batches, and how they move the weights."""

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
from library.errors import UserError, coded, in_plain_words
from library.method import Method
from library.training.memory.heap import keep_freed_memory
from library.training.optim.optimizer import logged_rates
from library.training.optim.parts.gradients import GradientLimits, clipped_norm, parts_of
from library.training.processes import PreparedOptimizer, Processes
from library.training.states.state import TrainState
from library.training.step.pending import Pending, ShownGroup
from library.training.step.requests import Requests
from library.training.step.task import DiffusionTask


class Gradients:
    """Accumulates gradients in `task`, which accelerate has prepared."""

    def __init__(self, processes: Processes, task: nn.Module, state: TrainState, requests: Requests) -> None:
        self.task = task
        self._processes, self._state, self._requests = processes, state, requests

    def accumulate(self, group: Sequence[Batch]) -> Pending:
        """Run forward and backward for the batches of one update.

        Returns the mean loss over them and over the processes, and the shares of processes that are asked to stop and to save, so that all
        processes know the same.
        """
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
        """Seed torch's global generator, which dropout inside networks uses, so that it depends only on the position in the run."""
        drawn = seeds.fold(self._state.seed, "network", self._state.step, place, self._processes.process_index)
        torch.manual_seed(drawn & 0xFFFF_FFFF_FFFF)


class Weights:
    """Moves the trained weights.

    `optimizer` is prepared by accelerate; `schedule` is not: it is stepped once per update, for any number of processes.
    """

    def __init__(
        self, processes: Processes, method: Method, optimizer: PreparedOptimizer, schedule: LRScheduler, limits: GradientLimits
    ) -> None:
        self.method = method
        self._processes, self._optimizer, self._schedule = processes, optimizer, schedule
        self._trained: list[nn.Parameter] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._parts = parts_of(self._trained, method.text_encoder_parameters() if limits.text_encoder is not None else (), limits)
        self._names = [str(group.get("name", place)) for place, group in enumerate(optimizer.param_groups)]
        self._moved = False

    def clip(self) -> Tensor:
        """Clip the gradients; returns their norm [1] before clipping."""
        return clipped_norm(self._processes, self._parts)

    def move(self, pending: Pending) -> None:
        """Move the weights by the accumulated gradients."""
        self._optimizer.step()
        rates = logged_rates(self._optimizer, self._names)  # the rates of this update
        pending.overflow = self._optimizer.step_was_skipped  # fp16: the scaler detected an overflow and lowers its scale
        if not pending.overflow:
            self._move_schedule(pending.step)
        self._optimizer.zero_grad(set_to_none=True)
        if not self._moved:
            self._moved = True
            self._keep_freed_memory()
        pending.extra = {**rates, **self.method.after_step(pending.step - 1)}

    def _move_schedule(self, step: int) -> None:
        """A class that the user names may need what another optimizer has, which only shows once there are gradients."""
        try:
            self._schedule.step()
        except (AttributeError, LookupError, TypeError) as fault:
            what = type(self._schedule).__name__
            reason = f"fails with this optimizer after update {step} ({in_plain_words(fault)})"
            raise UserError(coded("OPT-015", f"--lr_scheduler_type {what}: {reason}; use another schedule")) from fault

    def _keep_freed_memory(self) -> None:
        """On a CPU, from here on: what stays for the whole run, the optimizer's states included, has its place by now. Before that, states
        would not fit into the gaps that freed activations leave, which takes 0.3 to 0.9 GiB more (`benchmarks/RESULTS.md`)."""
        if self._processes.device.type == "cpu":
            keep_freed_memory()

    def leave(self) -> None:
        """Drop the update, and its gradients."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._processes.scaler is not None and any(
            part.limit for part in self._parts
        ):  # it has unscaled the gradients and must be updated
            self._processes.scaler.update()

    def release_frozen(self) -> None:
        """Free the optimizer's memory of parameters that are no longer trained."""
        for parameter in self._trained:
            if not parameter.requires_grad:
                self._optimizer.state.pop(parameter, None)


def _by_target(group: Sequence[Batch], per_image: Sequence[Tensor]) -> list[Tensor]:
    """Return the sum of losses [] and the number of images, for targets from the base model and for the others.

    Empty if a batch does not record the kind of target. Images with weight 0 only fill up a process's batch and are not counted.
    """
    if any(batch.prior is None for batch in group):
        return []
    prior = torch.cat([batch.prior for batch in group if batch.prior is not None])
    losses = torch.cat(list(per_image))
    counted = torch.cat([batch.loss_weights for batch in group]) > 0
    shares = [(mask & counted).to(losses.device, losses.dtype, non_blocking=True) for mask in (prior, ~prior)]
    return [figure for share in shares for figure in ((losses * share).sum(), share.sum())]


def _timesteps(processes: Processes, task: nn.Module, batch: Batch) -> list[int]:
    return cast(DiffusionTask, processes.unwrap_model(task)).timestep_numbers(batch)  # a compiled task has another class
