"""Where a run stands: the one counter from which file names, draws and the data order follow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TrainState:
    """Position of a run. Everything random is a function of this and of the record drawn, so nothing else has to be kept for it."""

    seed: int
    step: int = 0  # updates done
    epoch: int = 0  # epochs done
    position: int = 0  # batches of the current epoch done
