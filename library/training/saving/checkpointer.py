"""Decides which file is written when, its name, and which older file it replaces (SPEC R2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from library.console import log
from library.errors import Problem, UserError
from library.paths.listing import matching
from library.paths.look import exists, is_file, is_folder, real
from library.renaming import remove
from library.training.planning.plan import RunPlan
from library.training.saving.full_disk import FullDiskPolicy, SaveWriter

WriteFile = Callable[[Path, int, int], None]  # (path, epochs done, updates done)


@dataclass(frozen=True)
class FileNames:
    """File names that users' scripts and other programs rely on; without `--output_name`: last, epoch-000001, at-step00000100."""

    folder: Path
    name: str | None
    extension: str  # with the dot
    suffix: str = ""  # of a product, after the run's name

    def epoch(self, epoch: int) -> Path:
        """Return the file saved after epoch `epoch`, counted from 1."""
        return self.folder / f"{self.name or 'epoch'}{self.suffix}-{epoch:06d}{self.extension}"

    def step(self, step: int) -> Path:
        """Return the file saved after update `step`, counted from 1."""
        return self.folder / f"{self.name or 'at'}{self.suffix}-step{step:08d}{self.extension}"

    def best(self) -> Path:
        """Return the file with the lowest validation loss so far."""
        return self.folder / f"{self.name or 'last'}{self.suffix}-best{self.extension}"

    def last(self) -> Path:
        """Return the file saved at the end of the run."""
        return self.folder / f"{self.name or 'last'}{self.suffix}{self.extension}"


def names_of(name: str | None, suffixes: Sequence[str] = ()) -> re.Pattern[str]:
    """Return a pattern that matches the names of one run's files and states only; `suffixes` are those of its products."""
    stem = re.escape(name) if name else "(?:epoch|at|last)"
    which = f"(?:{'|'.join(map(re.escape, suffixes))})?"
    return re.compile(rf"{stem}(?:-ema)?{which}(?:-\d{{6}}|-step\d{{8}}|-best)?(?:-state|\.[a-z]+|\.run\.json|\.images\.(?:jsonl|html))?")


@dataclass(frozen=True)
class SaveRule:
    """When a kind of save is written and how long it is kept.

    `last_n_epochs` keeps the saves of the last n saved epochs, `last_n_steps` those of the last n updates (updates, not files).
    """

    last_n_epochs: int | None = None
    last_n_steps: int | None = None
    with_saves: bool = True  # False: only at the end, when the run is stopped, or on request


@dataclass(frozen=True, eq=False)
class SaveKind:
    """One kind of save: files, averages of weights, or states. `write` must be atomic."""

    names: FileNames
    write: WriteFile
    rule: SaveRule = field(default_factory=SaveRule)
    what: str = "files"  # shown in the plan
    bytes: int = 0  # estimated size of one save on the disk

    def outdated_steps(self, plan: RunPlan, step: int) -> list[Path]:
        """Return the saves to remove once the save of update `step` is complete: those more than `last_n_steps` updates older.

        Updates that the command names (`plan.named_steps`) are kept.
        """
        if self.rule.last_n_steps is None:
            return []
        outdated = (old for old in plan.save_steps if old < step - self.rule.last_n_steps)
        return [self.names.step(old) for old in outdated if old not in plan.named_steps]

    def outdated_epochs(self, plan: RunPlan, epoch: int) -> list[Path]:
        """Return the saves to remove once the save of epoch `epoch` is complete: only the last n saved epochs are kept."""
        if self.rule.last_n_epochs is None:
            return []
        done = [old for old in plan.save_epochs if old <= epoch]
        return [self.names.epoch(old) for old in done[: max(0, len(done) - self.rule.last_n_epochs)]]


@dataclass(frozen=True)
class SaveKinds:
    """What a run saves: always files, and if requested averages of weights and states."""

    files: SaveKind
    averages: SaveKind | None = None
    states: SaveKind | None = None
    beside: tuple[SaveKind, ...] = ()  # additional files and their averages: one for each new word

    def all(self) -> tuple[SaveKind, ...]:
        """Return all kinds in writing order. States come last: if an interruption leaves a file out, the previous state makes it again."""
        return tuple(kind for kind in (self.files, self.averages, *self.beside, self.states) if kind is not None)


class Checkpointer:
    """Writes the saves of the plan, and removes old ones only after the new ones are complete.

    `policy` decides what happens to a save that does not fit on the disk; skipped saves are counted in `missed`.
    """

    def __init__(
        self,
        plan: RunPlan,
        kinds: SaveKinds,
        policy: FullDiskPolicy | None = None,
        release: Callable[[Path], None] = lambda path: None,
    ) -> None:
        """`release(path)` blocks until nothing else needs a file that is about to be removed."""
        self._plan, self._kinds, self._release = plan, kinds, release
        self._writer = SaveWriter(policy or FullDiskPolicy())
        self._bytes = {kind: kind.bytes for kind in kinds.all()}  # size of one save: an estimate until the first is written
        self._newest_state: Path | None = None
        self._just_saved: set[tuple[int, FileNames]] = set()

    @property
    def missed(self) -> int:
        """Return how many saves were skipped."""
        return self._writer.missed

    def after_update(self, epoch: int, step: int) -> None:
        """Save after update `step` (from 1) in epoch `epoch` (epochs done) if the plan says to."""
        if not self._plan.is_save_step(step):
            return
        planned = [kind for kind in self._kinds.all() if kind.rule.with_saves]
        for kind in self._write_step(planned, epoch, step):
            self._remove(kind.outdated_steps(self._plan, step))

    def after_epoch(self, epoch: int, step: int) -> None:
        """Save after epoch `epoch` (from 1) if the plan says to."""
        if not self._plan.is_save_epoch(epoch):
            return
        planned = [kind for kind in self._kinds.all() if kind.rule.with_saves]
        for kind in self._write(planned, lambda names: names.epoch(epoch), epoch, step):
            self._remove(kind.outdated_epochs(self._plan, epoch))

    def on_demand(self, epoch: int, step: int) -> None:
        """Save a file and a state after update `step`, on request and regardless of the plan."""
        self._write_step(self._missing_at(step), epoch, step)

    def at_stop(self, epoch: int, step: int) -> None:
        """Save as `on_demand` does when the run stops; a failed save raises UserError, since it would be lost."""
        self._write_step(self._missing_at(step), epoch, step, needed=True)

    def best(self, epoch: int, step: int) -> None:
        """Save the weights with the lowest validation loss so far, replacing the previous best; no state."""
        self._write([kind for kind in self._kinds.all() if kind is not self._kinds.states], FileNames.best, epoch, step)

    def at_end(self, epoch: int, step: int) -> Path:
        """Write the run's product and return its path."""
        self._write(self._kinds.all(), FileNames.last, epoch, step, needed=True)
        return self.product()

    def product(self) -> Path:
        """Return the path where `at_end` writes the product."""
        return self._writer.place_of(self._kinds.files.names.last())

    def products(self) -> list[Path]:
        """Return the paths of all products, the main one first; without averages and states."""
        kinds = [kind for kind in (self._kinds.files, *self._kinds.beside) if kind.what == self._kinds.files.what]
        return [self._writer.place_of(kind.names.last()) for kind in kinds]

    def catch_up(self, state: Path, epochs: int, step: int) -> list[tuple[bool, Path]]:
        """Finish what an interruption prevented after `state`, from which the run resumes, was written: remove outdated saves.

        Returns everything that was saved together with `state`, as (whether it is a state, path); empty if `state` does not have one of
        this run's names.
        """
        steps, epoch = (lambda names: names.step(step)), (lambda names: names.epoch(epochs))
        moments: list[Callable[[FileNames], Path]] = [steps, epoch, FileNames.last]
        of_states = self._kinds.states
        moment = next((one for one in moments if of_states is not None and real(one(of_states.names)) == real(state)), None)
        if moment is None:
            return []
        there = [kind for kind in self._kinds.all() if exists(moment(kind.names))]
        for kind in (kind for kind in there if kind.rule.with_saves):
            if moment is steps and self._plan.is_save_step(step):
                self._remove(kind.outdated_steps(self._plan, step))
            elif moment is epoch and self._plan.is_save_epoch(epochs):
                self._remove(kind.outdated_epochs(self._plan, epochs))
        return [(kind is of_states, moment(kind.names)) for kind in there]

    def file_at_step(self, step: int) -> Path:
        """Return the product that `at_stop` wrote."""
        return self._writer.place_of(self._kinds.files.names.step(step))

    def state_at_step(self, step: int) -> Path | None:
        """Return the state that `at_stop` wrote; None if the run saves no states."""
        return None if self._kinds.states is None else self._writer.place_of(self._kinds.states.names.step(step))

    def newest_state(self) -> Path | None:
        """Return the last state that this run wrote, if it still exists."""
        return self._newest_state if self._newest_state is not None and exists(self._newest_state) else None

    def _missing_at(self, step: int) -> list[SaveKind]:
        """Return the kinds not yet saved after this update, by the plan or on request."""
        return [kind for kind in self._kinds.all() if (step, kind.names) not in self._just_saved]

    def _write_step(self, kinds: Sequence[SaveKind], epoch: int, step: int, needed: bool = False) -> list[SaveKind]:
        written = self._write(kinds, lambda names: names.step(step), epoch, step, needed)
        self._just_saved = {entry for entry in self._just_saved if entry[0] == step} | {(step, kind.names) for kind in written}
        return written

    def _write(
        self, kinds: Sequence[SaveKind], path_of: Callable[[FileNames], Path], epoch: int, step: int, needed: bool = False
    ) -> list[SaveKind]:
        """Write the kinds and return those that were written. Raises UserError for failed ones, after the others are written."""
        written: list[SaveKind] = []
        faults: list[Problem] = []
        for kind in kinds:
            try:
                write = partial(_written, kind, epoch, step)
                place = self._writer.write(path_of(kind.names), self._bytes[kind], write, needed, wait=not faults)
            except UserError as fault:
                faults += fault.problems
                continue
            if place is None:
                continue
            self._bytes[kind] = size_of(place)
            if kind is self._kinds.states:
                self._newest_state = place
            written.append(kind)
            log.info(f"saved {place}")
        if faults:
            raise UserError(*faults)
        return written

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in map(self._writer.place_of, paths):
            if exists(path):
                self._release(path)
                try:
                    remove(path)
                    log.info(f"removed {path.name} (--save_last_n_*)")
                except OSError as error:  # on Windows another program may have it open: keeping it is harmless
                    log.warning(f"{path} could not be removed (--save_last_n_*: {error.strerror or error}); it is kept and complete")


def _written(kind: SaveKind, epoch: int, step: int, path: Path) -> None:
    kind.write(path, epoch, step)


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    if is_folder(path):
        return sum(inside.stat().st_size for inside in matching(path, "**/*") if is_file(inside))
    return path.stat().st_size
