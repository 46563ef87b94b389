"""Kills runs at random file operations and moments, goes on from what is left, and compares the end with a run that nothing disturbed.

    python -m tests.attack.killing --kills 200          counts, and each fault with what repeats it

A server that has imported everything forks a child for each run, so that a run costs about a second. POSIX only.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.fork_server import ForkServer
from tests.attack.kill_checks import compare, share_left, unreadable
from tests.attack.runs import Ended, Kill, Scripts, options_in, ready, run


@dataclass
class Counts:
    """What an attack found; `faults` say what is wrong and what repeats it."""

    kills: Counter[str] = field(default_factory=Counter)  # that met a living run, by script
    late: int = 0  # runs that were through before
    ends: int = 0  # runs brought to their end and compared
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The figures for people."""
        listed = ", ".join(f"{script} {number}" for script, number in sorted(self.kills.items()))
        lines = [f"{self.kills.total()} kills ({listed}), {self.late} came too late; {self.ends} ends compared; {len(self.faults)} faults"]
        return "\n".join([*lines, *self.faults])


def attack(server: ForkServer, folder: Path, kills: int, seed: int, scripts: Scripts) -> Counts:
    """Kill until `kills` have met a living run, over all `scripts` (name: options) in turn."""
    chance, counts = random.Random(seed), Counts()
    updates = int(str(next(iter(scripts.values()))["max_train_steps"]))
    wholes: dict[str, tuple[Path, Ended]] = {}
    for number in range(kills * 4):
        if counts.kills.total() >= kills:
            break
        script = sorted(scripts)[number % len(scripts)]
        if script not in wholes:
            place = folder / f"{script}-whole"
            whole = run(server, script, options_in(script, scripts[script], place), place)
            if whole.code != 0:
                counts.faults.append(f"{script}: the undisturbed run ended with {whole.code}: {whole.told[-2000:]}")
                return counts
            wholes[script] = place, whole
        undisturbed, whole = wholes[script]
        place, history = folder / f"{script}-{number}", []
        for _ in range(chance.randrange(1, 4)):
            kill = _drawn(chance, whole, share_left(place / "out", updates))
            ended = run(server, script, options_in(script, scripts[script], place), place, kill)
            history.append(kill)
            repeat = f"seed {seed}, round {number}, {script}, {history}"
            if ended.code == -signal.SIGKILL:
                counts.kills[script] += 1
            elif is_through(ended):
                counts.late += 1
                break
            elif ended.code != 0:
                counts.faults.append(f"{repeat}: a run ended with {ended.code}: {ended.told[-1500:]}")
                break
            else:
                counts.late += 1
            counts.faults += [f"{repeat}: {fault}" for fault in unreadable(place)]
            if ended.code == 0:
                break
        else:
            ended = run(server, script, options_in(script, scripts[script], place), place)
            if ended.code != 0 and not is_through(ended):
                counts.faults.append(f"{repeat}: the resumed run ended with {ended.code}: {ended.told[-1500:]}")
                continue
        counts.ends += 1
        counts.faults += [f"{repeat}: {fault}" for fault in compare(undisturbed, place, is_through(ended))]
        shutil.rmtree(place)
    return counts


def is_through(ended: Ended) -> bool:
    """Whether the run has refused to go on because the one before was killed after its last state."""
    return ended.code == 2 and "nothing is left to train" in ended.told


def _drawn(chance: random.Random, whole: Ended, left: float) -> Kill:
    """Operations twice as often as moments: those are what leaves files half done. `left` is the share of a run that is still to do."""
    if chance.random() < 0.67:
        return Kill(operation=chance.randrange(1, max(2, round(whole.operations * left))))
    return Kill(after=chance.uniform(0.0, whole.seconds * left))


def main() -> int:
    """Attack from the command line; the exit code is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    arguments = parser.parse_args()
    began = time.monotonic()
    with ready() as (server, folder, scripts):
        counts = attack(server, folder, arguments.kills, arguments.seed, scripts)
    print(counts.text(), f"\nseed {arguments.seed}, {time.monotonic() - began:.0f} s")
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit(main())
