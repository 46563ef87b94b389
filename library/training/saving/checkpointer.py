"""Which file is written when, under which name, and which older one it replaces (SPEC R2)."""

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
    """Names that users' scripts and other programs rely on; without `--output_name`: last, epoch-000001, at-step00000100."""

    folder: Path
    name: str | None
    extension: str  # with its dot
    suffix: str = ""  # of a product, behind the run's name

    def epoch(self, epoch: int) -> Path:
        """The file kept after epoch `epoch`, counted from 1."""
        return self.folder / f"{self.name or 'epoch'}{self.suffix}-{epoch:06d}{self.extension}"

    def step(self, step: int) -> Path:
        """The file kept after update `step`, counted from 1."""
        return self.folder / f"{self.name or 'at'}{self.suffix}-step{step:08d}{self.extension}"

    def best(self) -> Path:
        """The file with the lowest validation loss so far."""
        return self.folder / f"{self.name or 'last'}{self.suffix}-best{self.extension}"

    def last(self) -> Path:
        """The file of the run's end."""
        return self.folder / f"{self.name or 'last'}{self.suffix}{self.extension}"


def names_of(name: str | None, suffixes: Sequence[str] = ()) -> re.Pattern[str]:
    """What the names of a run's files and states look like, and those of no other run; `suffixes` are those of its products."""
    stem = re.escape(name) if name else "(?:epoch|at|last)"
    which = f"(?:{'|'.join(map(re.escape, suffixes))})?"
    return re.compile(rf"{stem}(?:-ema)?{which}(?:-\d{{6}}|-step\d{{8}}|-best)?(?:-state|\.[a-z]+|\.run\.json|\.images\.(?:jsonl|html))?")


@dataclass(frozen=True)
class SaveRule:
    """When a kind of thing is written and how long it stays: `last_n_epochs` keeps those of the last so many epochs that were saved for,
    `last_n_steps` those of the last so many updates (a number of updates, not of files)."""

    last_n_epochs: int | None = None
    last_n_steps: int | None = None
    with_saves: bool = True  # False: only at the end, when the run is stopped, or on demand


@dataclass(frozen=True, eq=False)
class SaveKind:
    """One kind of thing that a run saves: files, averages of weights, or states. `write` must be atomic."""

    names: FileNames
    write: WriteFile
    rule: SaveRule = field(default_factory=SaveRule)
    what: str = "files"  # for the plan
    bytes: int = 0  # that one takes on the disk: an estimate

    def outdated_steps(self, plan: RunPlan, step: int) -> list[Path]:
        """Those that go when the one of update `step` is there: a number of updates counts, so all that are more than n behind it, but
        none that the command has named."""
        if self.rule.last_n_steps is None:
            return []
        outdated = (old for old in plan.save_steps if old < step - self.rule.last_n_steps)
        return [self.names.step(old) for old in outdated if old not in plan.named_steps]

    def outdated_epochs(self, plan: RunPlan, epoch: int) -> list[Path]:
        """Those that go when the one of epoch `epoch` is there: of the epochs that were saved for, all but the last n."""
        if self.rule.last_n_epochs is None:
            return []
        done = [old for old in plan.save_epochs if old <= epoch]
        return [self.names.epoch(old) for old in done[: max(0, len(done) - self.rule.last_n_epochs)]]


@dataclass(frozen=True)
class SaveKinds:
    """What a run saves: always files, and on request averages of weights and states beside them."""

    files: SaveKind
    averages: SaveKind | None = None
    states: SaveKind | None = None
    beside: tuple[SaveKind, ...] = ()  # further files, and their averages: one for each new word

    def all(self) -> tuple[SaveKind, ...]:
        """Those that there are, in the order in which they are written; states come last, so that what a kill leaves out is made again."""
        return tuple(kind for kind in (self.files, self.averages, *self.beside, self.states) if kind is not None)


class Checkpointer:
    """Writes what the plan says, and removes what retention says: only after the new ones are whole.

    `policy` says what becomes of a save for which the disk has no room; those that are left out are counted in `missed`.
    """

    def __init__(
        self,
        plan: RunPlan,
        kinds: SaveKinds,
        policy: FullDiskPolicy | None = None,
        release: Callable[[Path], None] = lambda path: None,
    ) -> None:
        """`release(path)` returns when nobody else needs a file that is to go."""
        self._plan, self._kinds, self._release = plan, kinds, release
        self._writer = SaveWriter(policy or FullDiskPolicy())
        self._bytes = {kind: kind.bytes for kind in kinds.all()}  # that one takes: an estimate, until one was written
        self._newest_state: Path | None = None
        self._just_saved: set[tuple[int, FileNames]] = set()

    @property
    def missed(self) -> int:
        """Saves that were left out."""
        return self._writer.missed

    def after_update(self, epoch: int, step: int) -> None:
        """Keep a file after update `step` (from 1) of epoch `epoch` (epochs done) where the plan has one."""
        if not self._plan.is_save_step(step):
            return
        planned = [kind for kind in self._kinds.all() if kind.rule.with_saves]
        for kind in self._write_step(planned, epoch, step):
            self._remove(kind.outdated_steps(self._plan, step))

    def after_epoch(self, epoch: int, step: int) -> None:
        """Keep a file after epoch `epoch` (from 1) where the plan has one."""
        if not self._plan.is_save_epoch(epoch):
            return
        planned = [kind for kind in self._kinds.all() if kind.rule.with_saves]
        for kind in self._write(planned, lambda names: names.epoch(epoch), epoch, step):
            self._remove(kind.outdated_epochs(self._plan, epoch))

    def on_demand(self, epoch: int, step: int) -> None:
        """Keep a file and a state after update `step`, whatever the plan says, as somebody asked for it."""
        self._write_step(self._missing_at(step), epoch, step)

    def at_stop(self, epoch: int, step: int) -> None:
        """The same where the run is stopped: what cannot be written now is lost, so that is told as an error."""
        self._write_step(self._missing_at(step), epoch, step, needed=True)

    def best(self, epoch: int, step: int) -> None:
        """Keep what has the lowest validation loss so far, in the place of what had it before; no state."""
        self._write([kind for kind in self._kinds.all() if kind is not self._kinds.states], FileNames.best, epoch, step)

    def at_end(self, epoch: int, step: int) -> Path:
        """Write the run's product; returns where it is."""
        self._write(self._kinds.all(), FileNames.last, epoch, step, needed=True)
        return self.product()

    def product(self) -> Path:
        """Where `at_end` has written it."""
        return self._writer.place_of(self._kinds.files.names.last())

    def products(self) -> list[Path]:
        """All that it has written but averages and states, the product first."""
        kinds = [kind for kind in (self._kinds.files, *self._kinds.beside) if kind.what == self._kinds.files.what]
        return [self._writer.place_of(kind.names.last()) for kind in kinds]

    def catch_up(self, state: Path, epochs: int, step: int) -> list[tuple[bool, Path]]:
        """For a run that goes on from `state`: remove what a kill has kept from going when that was written, and return all that was saved
        with it, as (whether it is a state, place); nothing where `state` is none of this run's names.
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
        """The product that `at_stop` has written."""
        return self._writer.place_of(self._kinds.files.names.step(step))

    def state_at_step(self, step: int) -> Path | None:
        """The state that `at_stop` has written, if states are kept."""
        return None if self._kinds.states is None else self._writer.place_of(self._kinds.states.names.step(step))

    def newest_state(self) -> Path | None:
        """The state that this run wrote last and still has."""
        return self._newest_state if self._newest_state is not None and exists(self._newest_state) else None

    def _missing_at(self, step: int) -> list[SaveKind]:
        """What has not been kept after this very update already, by the plan or on demand."""
        return [kind for kind in self._kinds.all() if (step, kind.names) not in self._just_saved]

    def _write_step(self, kinds: Sequence[SaveKind], epoch: int, step: int, needed: bool = False) -> list[SaveKind]:
        written = self._write(kinds, lambda names: names.step(step), epoch, step, needed)
        self._just_saved = {entry for entry in self._just_saved if entry[0] == step} | {(step, kind.names) for kind in written}
        return written

    def _write(
        self, kinds: Sequence[SaveKind], path_of: Callable[[FileNames], Path], epoch: int, step: int, needed: bool = False
    ) -> list[SaveKind]:
        """Those kinds that were written. Raises UserError for those for which nothing helps, when the others are written."""
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
                except OSError as error:  # on Windows another program may have it open: it stays, nothing is lost
                    log.warning(f"{path} could not be removed (--save_last_n_*: {error.strerror or error}); it is kept and complete")


def _written(kind: SaveKind, epoch: int, step: int, path: Path) -> None:
    kind.write(path, epoch, step)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if is_folder(path):
        return sum(inside.stat().st_size for inside in matching(path, "**/*") if is_file(inside))
    return path.stat().st_size
