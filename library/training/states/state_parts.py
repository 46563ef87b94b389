"""What a state contains besides its counters: one list for writing a state, for copying it in memory, and for restoring it."""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from library.method import Method
from library.training.ledger.ledger import ImageLedger
from library.training.optim.ema import Ema
from library.training.processes import Scaler


@dataclass(frozen=True)
class StateParts:
    """`method` has the weights; `scaler` is that of fp16 gradients."""

    method: Method
    optimizer: Optimizer
    schedule: LRScheduler
    scaler: Scaler | None = None
    ema: Ema | None = None
    ledger: ImageLedger | None = None  # rollback does not restore it: `ImageLedger.go_back` drops later showings
