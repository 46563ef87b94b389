"""The position of a run: the counters that determine file names, random choices and data order, and the losses behind its averages."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field, replace

from library.data.batching.sampler import Cut


@dataclass(frozen=True)
class Standing:
    """The results of a run's validations: the lowest loss and its update, and how many validations since were no better."""

    images: str = ""  # which images and noise the figures belong to: others cannot be compared
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    last_step: int = -1  # update after which the last validation took place

    def after(self, loss: float, step: int) -> Standing:
        """Return the result with the validation after update `step` included; a loss that is not finite is worse than any other."""
        if math.isfinite(loss) and (self.best is None or loss < self.best):
            return replace(self, best=loss, best_step=step, worse=0, last_step=step)
        return replace(self, worse=self.worse + 1, last_step=step)


@dataclass
class RunningMean:
    """Mean of the last `window` losses, so that early ones do not affect it forever."""

    window: int
    values: list[float] = field(default_factory=list)
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> float:
        """Add `value` and return the mean."""
        if len(self.values) < self.window:
            self.values.append(value)
        else:
            place = self.count % self.window
            self.total -= self.values[place]
            self.values[place] = value
        self.count += 1
        self.total += value
        return self.total / len(self.values)


@dataclass
class TrainState:
    """Position of a run. All randomness is a function of this and of the record, so nothing else has to be saved for it.

    `position` counts batches of the current epoch; after its last batch it stays until the epoch is closed. `cuts` are stretches of this
    epoch that were trained in batches of other sizes, before the batches that `position` counts.
    """

    seed: int
    step: int = 0  # updates done
    epoch: int = 0  # epochs done
    position: int = 0
    cuts: tuple[Cut, ...] = ()
    mean: RunningMean | None = None
    epoch_losses: list[float] = field(default_factory=list)
    validated: Standing = field(default_factory=Standing)
    left_out: tuple[str, ...] = ()  # keys of images that --on_nan rollback excludes from training
    session: str = field(default_factory=lambda: secrets.token_hex(4))  # identifies the run in its log and files, also after a resume
