"""The last good states of a run, in main memory and on the disk, to restore when weights are no longer finite numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accelerate.utils import broadcast_object_list

from library.training.processes import Processes
from library.training.states.saved_state import read_own
from library.training.states.snapshot import Snapshot, move, weights_bytes
from library.training.states.state import TrainState
from library.training.states.state_files import load_all
from library.training.states.state_parts import StateParts

LARGEST_SNAPSHOT = 1 << 30  # bytes of weights; for a whole model, only states on the disk are used


class GoodStates:
    """All methods must be called by all processes together."""

    def __init__(self, parts: StateParts, processes: Processes, newest_on_disk: Callable[[], Path | None]) -> None:
        """`newest_on_disk()` returns the newest good state on the disk; it is called on the main process only."""
        self.parts = parts
        self._processes, self._newest_on_disk = processes, newest_on_disk
        self._snapshot: Snapshot | None = None

    def remember(self, state: TrainState) -> None:
        """Copy everything into main memory, unless the weights exceed LARGEST_SNAPSHOT."""
        if weights_bytes(self.parts.method.modules()) <= LARGEST_SNAPSHOT:
            self._snapshot = Snapshot(self.parts, state)

    def newest(self) -> Path | None:
        """Return the newest good state on the disk."""
        shared = [self._newest_on_disk() if self._processes.is_main_process else None]
        broadcast_object_list(shared)
        return shared[0]

    def restore(self, state: TrainState) -> str | None:
        """Restore everything, including `state`, from the newest good state; returns where that is, None if there is no good state."""
        folder = self.newest()
        if self._snapshot is not None and (folder is None or self._snapshot.state.step >= _steps_of(folder)):
            self._snapshot.restore(state)
            where = "in memory"
        elif folder is not None:
            move(state, load_all(folder, self.parts))
            where = str(folder)
        else:
            return None
        for group in self.parts.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        self.parts.method.go_on(state.step)
        return where


def _steps_of(folder: Path) -> int:
    return read_own(folder).state.step
