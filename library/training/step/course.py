"""The position of a run in its plan, and the batches that come next."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Protocol

from library.data.loading.batch import Batch
from library.errors import UserError
from library.training.planning.plan import RunPlan
from library.training.states.state import RunningMean, TrainState
from library.training.step.requests import Requests


class BatchFeed(Protocol):
    """Supplies this process's batches."""

    def batches(self, epoch: int, start: int) -> Iterable[Batch]:
        """Yield the batches of `epoch` from batch `start` on."""

    def length(self, epoch: int) -> int:
        """Return the number of batches of `epoch`."""


class Course:
    """Moves `state` through `plan`; other objects share `state` and read the position from it."""

    def __init__(self, plan: RunPlan, state: TrainState, feed: BatchFeed, requests: Requests) -> None:
        self.plan, self.state, self.requests = plan, state, requests
        self._feed = feed
        if state.mean is None or state.mean.window != plan.updates_per_epoch:
            state.mean = RunningMean(plan.updates_per_epoch)

    def groups(self) -> Iterator[list[Batch]]:
        """Yield the rest of the current epoch as accumulation groups; the last group of an epoch may be shorter."""
        iterator = iter(self._feed.batches(self.state.epoch, self.state.position))
        while True:
            try:
                group = list(itertools.islice(iterator, self.plan.accumulation))
            except UserError:
                if self.requests.must_stop():  # the signal has ended a loader worker too
                    return
                raise
            if not group:
                return
            yield group

    def advance(self, batches: int) -> None:
        """Count an update of `batches` batches."""
        self.state.step += 1
        self.state.position += batches

    def close_epoch(self) -> None:
        """End the current epoch and start the next one."""
        self.state.epoch, self.state.position, self.state.cuts = self.state.epoch + 1, 0, ()

    def average(self, loss: float) -> float:
        """Add `loss` to the running mean and return the mean."""
        assert self.state.mean is not None
        return self.state.mean.add(loss)

    def epoch_is_whole(self) -> bool:
        """Return whether all batches of the current epoch are done."""
        return self.state.position >= self._feed.length(self.state.epoch)

    def epochs_done(self) -> int:
        """Return the number of whole epochs, including the current one if all its batches are done."""
        return self.state.epoch + (1 if self.epoch_is_whole() else 0)

    def updates_are_done(self) -> bool:
        """Return whether all updates of the plan are done."""
        return self.state.step >= self.plan.updates
