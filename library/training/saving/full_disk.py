"""What happens to a save that cannot be written to its place: another folder takes it, or the run waits until there is space."""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import sleep

from library.console import log
from library.errors import UserError, coded, first_line
from library.files import free_bytes, is_full, is_too_large
from library.options.groups.saving import SavingOptions
from library.paths.look import exists, is_folder
from library.renaming import is_in_use
from library.words import in_words, verb

MARGIN = 1 << 20  # bytes to leave free for others
EVERY = 10.0  # seconds between two attempts
MOST_WITH_OTHERS = 480.0  # seconds: other processes wait too, and NCCL treats a process that is silent for ten minutes as dead


@dataclass(frozen=True)
class FullDiskPolicy:
    """What to do with a save that does not fit: write it into the folder `spare`, otherwise wait up to `wait` seconds for space.

    With `go_on` the run does not wait for a save, except its last, and skips it.
    """

    spare: Path | None = None
    wait: float = 0.0
    go_on: bool = False

    @classmethod
    def from_options(cls, saving: SavingOptions, processes: int = 1) -> FullDiskPolicy:
        """Build from the saving options."""
        wait = saving.full_disk_wait * 60.0
        spare = None if saving.spare_dir is None else Path(saving.spare_dir)
        return cls(spare, wait if processes == 1 else min(wait, MOST_WITH_OTHERS), saving.on_full_disk == "continue")


class SaveWriter:
    """Writes the saves of a run. `missed` counts skipped saves; `place_of` returns where a save was written instead."""

    def __init__(self, policy: FullDiskPolicy, free: Callable[[Path], int] = free_bytes) -> None:
        self.policy, self.missed = policy, 0
        self._free = free
        self._elsewhere: dict[Path, Path] = {}

    def write(self, path: Path, size: int, write: Callable[[Path], None], needed: bool, wait: bool = True) -> Path | None:
        """Have `write` write about `size` bytes to `path`, or to the same name in the spare folder; returns the path used.

        Returns None if the save was skipped, which never happens if it is `needed`. Raises UserError if all attempts fail. `write` must be
        atomic.
        """
        fault = self._try_all(path, size, write)
        skips = fault is not None and self.policy.go_on and not needed and is_full(fault)
        waits = wait and not skips and self.policy.wait > 0 and not (fault is not None and is_too_large(fault))
        if fault is not None and waits:
            fault = self._wait(path, size, write, fault)
        if fault is None:
            return self.place_of(path)
        if not skips:
            raise UserError(coded("DISK-002", f"{_fault_line(path, fault)}; {self._remedy(fault, needed)}")) from fault
        self.missed += 1
        log.warning(f"{_fault_line(path, fault)}; training continues (--on_full_disk continue); free some space before the next save")
        return None

    def place_of(self, path: Path) -> Path:
        """Return where the save of `path` was written."""
        return self._elsewhere.get(path, path)

    def _try_all(self, path: Path, size: int, write: Callable[[Path], None]) -> Exception | None:
        """Try the folder of `path`, then the alternatives; returns the error of the first attempt if all fail, otherwise None."""
        fault = self._try(path, size, write)
        if fault is None:
            self._elsewhere.pop(path, None)
        elif is_in_use(fault) and exists(path) and self._try(other := _beside(path), size, write) is None:
            self._elsewhere[path] = other  # hours of training are worth a second file
            log.warning(f"{path} is in use by another program and cannot be replaced; saved as {other.name}")
            return None
        elif self.policy.spare is not None and self._try(self.policy.spare / path.name, size, write) is None:
            self._elsewhere[path] = self.policy.spare / path.name
            log.warning(f"{_fault_line(path, fault)}; it was saved in --spare_dir {self.policy.spare}")
            return None
        return fault

    def _try(self, path: Path, size: int, write: Callable[[Path], None]) -> Exception | None:
        try:
            free = self._free(path.parent)
            if free < size + MARGIN:
                raise OSError(errno.ENOSPC, f"No space left on device: about {in_words(size)} needed, {in_words(free)} free")
            path.parent.mkdir(parents=True, exist_ok=True)  # only now: a run that fails early leaves no folder behind
            write(path)
        except UserError:
            raise
        except Exception as fault:  # safetensors and torch raise their own errors for those of the system
            if not isinstance(fault, OSError) and not is_full(fault) and "(os error " not in str(fault):
                raise
            return fault
        return None

    def _wait(self, path: Path, size: int, write: Callable[[Path], None], fault: Exception) -> Exception | None:
        """Retry until it works or the time is over; returns the last error, None on success."""
        remedy = f"free about {in_words(size + MARGIN)} there" if is_full(fault) else f"make {path.parent} a folder that takes files again"
        log.warning(
            f"{_fault_line(path, fault)}; waiting up to {_minutes(self.policy.wait)} "
            f"(--full_disk_wait) and trying again: {remedy}, or press Ctrl-C (twice if necessary) to skip this save"
        )
        left, last = self.policy.wait, fault
        while left > 0:
            sleep(min(EVERY, left))
            left -= EVERY
            still = self._try_all(path, size, write)
            if still is None:
                return None
            last = still
        return last

    def _remedy(self, fault: Exception, needed: bool) -> str:
        if is_too_large(fault):  # space that becomes free does not help
            other = "choose a folder" if self.policy.spare is None else "choose folders"
            return f"a file this large is not allowed there (FAT32 takes up to 4 GiB, `ulimit -f` shows a limit); {other} on another disk"
        remedy = "free some space or choose another folder" if is_full(fault) else "fix that or choose another folder"
        spare = "" if self.policy.spare is not None else ", set a second folder with --spare_dir"
        more = ", or let such runs continue with --on_full_disk continue" if is_full(fault) and not needed and not self.policy.go_on else ""
        return remedy + spare + more


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} {verb(seconds / 60, 'minute', 'minutes')}"


def _beside(path: Path) -> Path:
    """Return an unused name for a file whose own name `path` is taken: cat-2.safetensors, cat-2-state."""
    ending = "-state" if path.name.endswith("-state") else "" if is_folder(path) else path.suffix
    names = (path.with_name(f"{path.name.removesuffix(ending)}-{number}{ending}") for number in itertools.count(2))
    return next(name for name in names if not exists(name))


def _fault_line(path: Path, fault: Exception) -> str:
    reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else first_line(fault)
    if of_the_system := re.search(r"I/O error: (.+?) \(os error", reason):  # safetensors' words for an OSError, with a temporary path
        reason = of_the_system[1]
    return f"--output_dir {path.parent}: {path.name} could not be written ({reason}); earlier saves are intact"
