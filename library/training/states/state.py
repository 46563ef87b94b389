"""Where a run stands: the one counter from which file names, draws and the data order follow, and the losses behind its averages."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field, replace

from library.data.batching.sampler import Cut


@dataclass(frozen=True)
class Standing:
    """What a run knows of its validations so far: the lowest loss and its update, and validations since that were no better."""

    images: str = ""  # which images and noise the figures are of: others cannot be compared
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    last_step: int = -1  # update after which the last validation took place

    def after(self, loss: float, step: int) -> Standing:
        """With the validation after update `step` taken in; a loss that is not finite is worse than any."""
        if math.isfinite(loss) and (self.best is None or loss < self.best):
            return replace(self, best=loss, best_step=step, worse=0, last_step=step)
        return replace(self, worse=self.worse + 1, last_step=step)


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


@dataclass
class TrainState:
    """Position of a run. Everything random is a function of this and of the record drawn, so nothing else has to be kept for it.

    `position` counts batches of the current epoch; after its last batch it stands there until the epoch is closed. `cuts` are
    stretches of this epoch that were done in batches of other sizes, before the ones that `position` counts.
    """

    seed: int
    step: int = 0  # updates done
    epoch: int = 0  # epochs done
    position: int = 0
    cuts: tuple[Cut, ...] = ()
    mean: RunningMean | None = None
    epoch_losses: list[float] = field(default_factory=list)
    validated: Standing = field(default_factory=Standing)
    left_out: tuple[str, ...] = ()  # keys of images that --on_nan rollback has taken out of the training
    session: str = field(default_factory=lambda: secrets.token_hex(4))  # names the run in its log and files, through every resume
