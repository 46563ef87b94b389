"""Which file is written when, under which name, and which older one it replaces (SPEC R2)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from library.console import log
from library.errors import UserError
from library.training.plan import RunPlan

WriteFile = Callable[[Path, int, int], None]  # (path, epochs done, updates done)


@dataclass(frozen=True)
class FileNames:
    """Names that users' scripts and other programs rely on; without `--output_name`: last, epoch-000001, at-step00000100."""

    folder: Path
    name: str | None
    extension: str  # with its dot

    def epoch(self, epoch: int) -> Path:
        """The file kept after epoch `epoch`, counted from 1."""
        return self.folder / f"{self.name or 'epoch'}-{epoch:06d}{self.extension}"

    def step(self, step: int) -> Path:
        """The file kept after update `step`, counted from 1."""
        return self.folder / f"{self.name or 'at'}-step{step:08d}{self.extension}"

    def last(self) -> Path:
        """The file of the run's end."""
        return self.folder / f"{self.name or 'last'}{self.extension}"


class Checkpointer:
    """Writes what the plan says through `write` and removes what retention says, only after the new file is whole.

    `last_n_epochs`: keep the files of the last so many epochs that were saved for; `last_n_steps`: keep the files of the
    last so many updates (a number of updates, not of files). `write` must be atomic.
    """

    def __init__(self, names: FileNames, plan: RunPlan, write: WriteFile, last_n_epochs: int | None, last_n_steps: int | None):
        self.names, self.plan, self.write = names, plan, write
        self.last_n_epochs, self.last_n_steps = last_n_epochs, last_n_steps

    def after_update(self, epoch: int, step: int) -> Path | None:
        """Keep a file after update `step` (from 1) of epoch `epoch` (epochs done) where the plan has one."""
        if not self.plan.is_save_step(step):
            return None
        path = self._write(self.names.step(step), epoch, step)
        if self.last_n_steps is not None:
            # "The last n steps" is a number of updates: a file goes when it is more than n behind the newest.
            for old in self.plan.save_steps:
                if old < step - self.last_n_steps:
                    _remove(self.names.step(old))
        return path

    def after_epoch(self, epoch: int, step: int) -> Path | None:
        """Keep a file after epoch `epoch` (from 1) where the plan has one."""
        if not self.plan.is_save_epoch(epoch):
            return None
        path = self._write(self.names.epoch(epoch), epoch, step)
        if self.last_n_epochs is not None:
            done = [old for old in self.plan.save_epochs if old <= epoch]
            for old in done[: max(0, len(done) - self.last_n_epochs)]:
                _remove(self.names.epoch(old))
        return path

    def at_end(self, epoch: int, step: int) -> Path:
        """Write the run's product."""
        return self._write(self.names.last(), epoch, step)

    def _write(self, path: Path, epoch: int, step: int) -> Path:
        try:
            self.write(path, epoch, step)
        except OSError as error:
            raise UserError(
                f"--output_dir {self.names.folder}: {path.name} could not be written ({error}); free some space or choose another folder"
            ) from error
        log.info(f"saved {path}")
        return path


def _remove(path: Path) -> None:
    if path.exists():
        with contextlib.suppress(OSError):  # on Windows another program may have it open: it stays, nothing is lost
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            log.info(f"removed {path.name} (--save_last_n_*)")
