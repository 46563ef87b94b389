"""What the loop tells: the figures of an update, and the moments at which others save, validate, draw samples and write logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from library.training.step.pending import Showing


@dataclass(frozen=True)
class UpdateReport:
    """What is known after an update: `losses` are means over the update's images, weighted as they are trained."""

    step: int  # updates done
    epoch: int  # epochs done before this one
    loss: float
    average: float  # of the last updates_per_epoch updates
    grad_norm: float  # of all that is trained together, before it was clipped
    extra: Mapping[str, float]
    showings: Callable[[], Sequence[Showing]] = tuple  # the images of the update on this process, where somebody asks


class Events(Protocol):
    """Each is called on every process; who acts is the receiver's own affair. `epochs` and `step` are epochs and updates done."""

    def before_training(self) -> None:
        """The first update is about to be made."""

    def on_update(self, report: UpdateReport) -> None:
        """The figures of an update are there, which may be an update later."""

    def after_update(self, epochs: int, step: int) -> None:
        """The weights of an update may be saved."""

    def on_demand(self, epochs: int, step: int) -> None:
        """Somebody asked to save."""

    def after_epoch(self, epochs: int, step: int) -> None:
        """An epoch is done."""

    def went_back(self, step: int) -> None:
        """The run stands at update `step` again: what came later is none of it any more."""

    def enough(self) -> bool:
        """Asked after an update and after an epoch: whether the run ends there, as if it were done."""


class NoEvents:
    """Nobody listens, and nobody ends the run."""

    def before_training(self) -> None:
        """Nothing."""

    def on_update(self, report: UpdateReport) -> None:
        """Nothing."""

    def after_update(self, epochs: int, step: int) -> None:
        """Nothing."""

    def on_demand(self, epochs: int, step: int) -> None:
        """Nothing."""

    def after_epoch(self, epochs: int, step: int) -> None:
        """Nothing."""

    def went_back(self, step: int) -> None:
        """Nothing."""

    def enough(self) -> bool:
        """Never."""
        return False
