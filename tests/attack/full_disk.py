"""Runs on disks that fill up at a random byte: what was good stays, nothing is half written, and each run says so in a line.

    python -m tests.attack.full_disk --trials 100

A small file system of its own where root may mount one, else a limit on the size of files (RLIMIT_FSIZE). POSIX only.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.fork_server import ForkServer
from tests.attack.kill_checks import INDEX, compare_products, unreadable
from tests.attack.runs import Ended, Scripts, options_in, ready, run

BLOCK = 4096  # bytes of a file system's smallest piece


@dataclass
class Counts:
    """What an attack found."""

    full: Counter[str] = field(default_factory=Counter)  # runs that met the end of the disk, by how it was limited
    roomy: int = 0  # runs for which there was room
    stopped: int = 0  # runs that ended because of it, with exit code 2
    ends: int = 0  # compared with an undisturbed run
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The figures for people."""
        listed = ", ".join(f"{number} by {kind}" for kind, number in sorted(self.full.items()))
        line = (
            f"{self.full.total()} full disks ({listed}), {self.stopped} runs ended by it, {self.roomy} had room; {self.ends} ends compared"
        )
        return "\n".join([f"{line}; {len(self.faults)} faults", *self.faults])


def prepare(limit: int | None) -> None:
    """In the child: saves are tried though there is too little room, as where others take it meanwhile; no file grows over `limit`."""
    from library.training.saving import disk_room, full_disk

    full_disk.MARGIN = disk_room.MARGIN = -(1 << 40)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def can_mount(folder: Path) -> bool:
    """Whether a file system of our own can be mounted below `folder`."""
    if os.geteuid() != 0:
        return False
    with mounted(folder / "try", 1 << 20) as done:
        return done


@contextmanager
def mounted(place: Path, size: int) -> Iterator[bool]:
    """A file system of `size` bytes at `place`; whether that could be done."""
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    done = shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", str(place)], check=True)


def attack(server: ForkServer, folder: Path, trials: int, seed: int, scripts: Scripts) -> Counts:
    """As many runs, over all `scripts` (name: options) in turn, each on a disk that is full at another byte."""
    chance, counts, mounts = random.Random(seed), Counts(), can_mount(folder)
    wholes: dict[str, tuple[Path, int, int]] = {}
    for number in range(trials):
        script = sorted(scripts)[number % len(scripts)]
        if script not in wholes:
            whole = folder / f"{script}-whole"
            ended = run(server, script, options_in(script, scripts[script], whole), whole)
            if ended.code != 0:
                counts.faults.append(f"{script}: the undisturbed run ended with {ended.code}: {ended.told[-2000:]}")
                return counts
            sizes = [path.stat().st_size for path in whole.rglob("*") if path.is_file()]
            wholes[script] = whole, sum(-(-size // BLOCK) * BLOCK for size in sizes), max(sizes)
        whole, in_all, largest = wholes[script]
        policy = {"on_full_disk": chance.choice(["stop", "continue"]), "full_disk_wait": 0}
        options, place = {**scripts[script], **policy}, folder / f"{script}-{number}"
        by_mount = mounts and chance.random() < 0.7
        size = chance.randrange(1, largest if not by_mount else in_all * 3 // 4)  # old saves go meanwhile
        repeat = f"seed {seed}, trial {number}, {script}, {policy['on_full_disk']}, {size} bytes {'in all' if by_mount else 'a file'}"
        if by_mount:
            images = 2 << 20  # for the images that are copied there
            with mounted(place, size + images):
                given = options_in(script, options, place)
                ended = run(server, script, given, place, prepare=("tests.attack.full_disk:prepare", None))
                _judge(counts, ended, whole, place, repeat, "a small disk")
                subprocess.run(["mount", "-o", "remount,size=512m", str(place)], check=True)
                _go_on(server, script, options, whole, place, counts, repeat)
        else:
            given = options_in(script, options, place)
            ended = run(server, script, given, place, prepare=("tests.attack.full_disk:prepare", size))
            _judge(counts, ended, whole, place, repeat, "a limit")
            _go_on(server, script, options, whole, place, counts, repeat)
        shutil.rmtree(place)
    return counts


def _judge(counts: Counts, ended: Ended, whole: Path, place: Path, repeat: str, kind: str) -> None:
    """What must be true of a run that met the end of the disk."""
    said = re.search(r"No space left|File too large|could not be written|cannot be written", ended.told)
    counts.full[kind] += said is not None
    counts.roomy += said is None
    if ended.code == 2:
        counts.stopped += 1
        if not re.search(
            r"^error: .*(No space left|File too large|the file on disk differs from what was written)", ended.told, re.MULTILINE
        ):
            counts.faults.append(f"{repeat}: ends without a line that says why: {ended.told[-1500:]}")
    elif ended.code != 0:
        counts.faults.append(f"{repeat}: ended with {ended.code}: {ended.told[-1500:]}")
    else:
        counts.faults += [f"{repeat}: {fault}" for fault in compare_products(whole, place)]
    if "Traceback" in ended.told:
        counts.faults.append(f"{repeat}: a traceback: {ended.told[-1500:]}")
    counts.faults += [f"{repeat}: {fault}" for fault in unreadable(place)]
    gone = set(re.findall(r"^saved (.*)$", ended.told, re.MULTILINE))
    removed = {name for name in re.findall(r"^removed (\S+) \(", ended.told, re.MULTILINE)}
    lost = [path for path in gone if Path(path).name not in removed and not Path(path).exists()]
    hidden = [str(path.relative_to(place)) for path in place.rglob(".*") if path.name != INDEX]
    if lost or hidden:
        counts.faults.append(f"{repeat}: lost {lost}, left over {hidden}")


def _go_on(server: ForkServer, script: str, options: Mapping[str, object], whole: Path, place: Path, counts: Counts, repeat: str) -> None:
    """With room again the run goes on from its newest state, and ends as one that nothing disturbed."""
    ended = run(server, script, options_in(script, options, place), place)
    if ended.code != 0 and "nothing is left to train" not in ended.told:
        counts.faults.append(f"{repeat}: the resumed run ended with {ended.code}: {ended.told[-1500:]}")
        return
    counts.ends += 1
    counts.faults += [f"{repeat}, resumed: {fault}" for fault in compare_products(whole, place)]


def main() -> int:
    """Attack from the command line; the exit code is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    arguments = parser.parse_args()
    with ready() as (server, folder, scripts):
        counts = attack(server, folder, arguments.trials, arguments.seed, scripts)
    print(counts.text(), f"\nseed {arguments.seed}")
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit(main())
