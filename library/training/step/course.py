"""Where a run stands in its plan, and the batches that come next."""

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
    """Where this process's batches come from."""

    def batches(self, epoch: int, start: int) -> Iterable[Batch]:
        """The batches of that epoch from batch `start` on."""

    def length(self, epoch: int) -> int:
        """How many batches that epoch has in all."""


class Course:
    """Moves `state` through `plan`; others hold the same `state` and see where the run is."""

    def __init__(self, plan: RunPlan, state: TrainState, feed: BatchFeed, requests: Requests) -> None:
        self.plan, self.state, self.requests = plan, state, requests
        self._feed = feed
        if state.mean is None or state.mean.window != plan.updates_per_epoch:
            state.mean = RunningMean(plan.updates_per_epoch)

    def groups(self) -> Iterator[list[Batch]]:
        """What is left of the epoch under way, as accumulation groups; the last one of an epoch may be shorter."""
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
        """An update of so many batches is done."""
        self.state.step += 1
        self.state.position += batches

    def close_epoch(self) -> None:
        """The epoch under way is done: the next one begins."""
        self.state.epoch, self.state.position, self.state.cuts = self.state.epoch + 1, 0, ()

    def average(self, loss: float) -> float:
        """The mean of the last losses, with this one."""
        assert self.state.mean is not None
        return self.state.mean.add(loss)

    def epoch_is_whole(self) -> bool:
        """Whether all batches of the epoch under way are done."""
        return self.state.position >= self._feed.length(self.state.epoch)

    def epochs_done(self) -> int:
        """Whole epochs, the one under way among them if all its batches are done."""
        return self.state.epoch + (1 if self.epoch_is_whole() else 0)

    def updates_are_done(self) -> bool:
        """Whether the plan has no further update."""
        return self.state.step >= self.plan.updates
