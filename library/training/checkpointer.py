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

    def best(self) -> Path:
        """The file with the lowest validation loss so far."""
        return self.folder / f"{self.name or 'last'}-best{self.extension}"

    def last(self) -> Path:
        """The file of the run's end."""
        return self.folder / f"{self.name or 'last'}{self.extension}"


@dataclass(frozen=True)
class Kept:
    """One kind of thing that is kept, files or states, and how long: `last_n_epochs` keeps those of the last so many epochs that
    were saved for, `last_n_steps` those of the last so many updates (a number of updates, not of files). `write` must be atomic."""

    names: FileNames
    write: WriteFile
    last_n_epochs: int | None = None
    last_n_steps: int | None = None


class Checkpointer:
    """Writes what the plan says, files and (where given) averages of weights and states beside them, and removes what retention says: only
    after the new ones are whole."""

    def __init__(
        self,
        plan: RunPlan,
        files: Kept,
        states: Kept | None = None,
        averages: Kept | None = None,
        release: Callable[[Path], None] | None = None,
    ):
        self.plan, self.states = plan, states
        self._release = release or (lambda path: None)  # returns when nobody else needs a file that is to go
        self.kinds = tuple(kind for kind in (files, averages, states) if kind is not None)

    def after_update(self, epoch: int, step: int) -> Path | None:
        """Keep a file after update `step` (from 1) of epoch `epoch` (epochs done) where the plan has one."""
        if not self.plan.is_save_step(step):
            return None
        path = self.at_step(epoch, step)
        for kind in self.kinds:
            if kind.last_n_steps is not None:
                # "The last n steps" is a number of updates: a file goes when it is more than n behind the newest.
                for old in self.plan.save_steps:
                    if old < step - kind.last_n_steps:
                        self._remove(kind.names.step(old))
        return path

    def after_epoch(self, epoch: int, step: int) -> Path | None:
        """Keep a file after epoch `epoch` (from 1) where the plan has one."""
        if not self.plan.is_save_epoch(epoch):
            return None
        path = self._write([kind.names.epoch(epoch) for kind in self.kinds], epoch, step)
        for kind in self.kinds:
            if kind.last_n_epochs is not None:
                done = [old for old in self.plan.save_epochs if old <= epoch]
                for old in done[: max(0, len(done) - kind.last_n_epochs)]:
                    self._remove(kind.names.epoch(old))
        return path

    def at_step(self, epoch: int, step: int) -> Path:
        """Keep a file after update `step`, whatever the plan says: the run is stopped there."""
        return self._write([kind.names.step(step) for kind in self.kinds], epoch, step)

    def best(self, epoch: int, step: int) -> Path:
        """Keep what has the lowest validation loss so far, in the place of what had it before; no state."""
        kinds = [kind for kind in self.kinds if kind is not self.states]
        return self._write([kind.names.best() for kind in kinds], epoch, step)

    def at_end(self, epoch: int, step: int) -> Path:
        """Write the run's product."""
        return self._write([kind.names.last() for kind in self.kinds], epoch, step)

    def state_at_step(self, step: int) -> Path | None:
        """The state that `at_step` writes, if states are kept."""
        return None if self.states is None else self.states.names.step(step)

    def _write(self, paths: list[Path], epoch: int, step: int) -> Path:
        for kind, path in zip(self.kinds, paths, strict=False):  # the best has no state, which is the last kind
            try:
                path.parent.mkdir(parents=True, exist_ok=True)  # not before: a run that fails early leaves nothing behind
                kind.write(path, epoch, step)
            except OSError as error:
                raise UserError(
                    f"--output_dir {kind.names.folder}: {path.name} could not be written ({error}); "
                    "free some space or choose another folder"
                ) from error
            log.info(f"saved {path}")
        return paths[0]

    def _remove(self, path: Path) -> None:
        if path.exists():
            self._release(path)
            with contextlib.suppress(OSError):  # on Windows another program may have it open: it stays, nothing is lost
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                log.info(f"removed {path.name} (--save_last_n_*)")
