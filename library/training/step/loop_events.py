"""Events of the loop: the figures of an update, and the moments to save, validate, generate samples and write logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from library.training.step.pending import Showing


@dataclass(frozen=True)
class UpdateReport:
    """What is known after an update: `losses` are means over the update's images, with their loss weights."""

    step: int  # updates done
    epoch: int  # epochs done before this one
    loss: float
    average: float  # of the last updates_per_epoch updates
    grad_norm: float  # of everything trained, before clipping
    extra: Mapping[str, float]
    showings: Callable[[], Sequence[Showing]] = tuple  # the images of the update on this process, computed when called


class Events(Protocol):
    """All methods are called on every process; receivers decide which one acts. `epochs` and `step` are epochs and updates done."""

    def before_training(self) -> None:
        """The first update is about to start."""

    def on_update(self, report: UpdateReport) -> None:
        """The figures of an update have arrived, possibly one update later."""

    def after_update(self, epochs: int, step: int) -> None:
        """The weights of an update may be saved."""

    def on_demand(self, epochs: int, step: int) -> None:
        """A save was requested."""

    def after_epoch(self, epochs: int, step: int) -> None:
        """An epoch is done."""

    def went_back(self, step: int) -> None:
        """The run went back to update `step`: everything after it is discarded."""

    def enough(self) -> bool:
        """Return whether the run ends here as if it were complete; called after each update and epoch."""


class NoEvents:
    """Ignores all events, and never ends the run."""

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
