"""Images a second of several processes that meet through gloo, one thread each, beside those of one process, on a small model.

python benchmarks/processes.py --processes 2 --resolution 256 --batch 4 --rounds 5

It wants a quiet machine with a core for each process. Every process trains batches of the same size, so the several train so many times
more images an update. One process, several that meet, and as many that know nothing of one another take turns: the last are the ceiling
that cores and memory set, whatever the meeting costs. Nothing is written to RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the project lies one folder up
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rounds import Contestant, Job

OURS = "benchmarks.own_loop"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Outcome:
    """Images a second (medians over the rounds), and the median over the rounds of their ratios to one process."""

    one: float
    several: float
    apart: float  # as many processes that do not meet
    ratio: float
    ceiling: float


def compare(job: Job, processes: int, rounds: int) -> Outcome:
    """One process, `processes` that meet, and as many that do not, round by round in turns."""
    alone, team = Contestant(OURS, job, ONE_THREAD), _team(job, processes)
    strangers = [alone, *(Contestant(OURS, job, ONE_THREAD) for _ in range(processes - 1))]
    everyone = (*strangers, *team)
    try:
        turns = [(_speed([alone], job), _speed(team, job), _speed(strangers, job)) for _ in range(rounds)]
        for contestant in everyone:
            contestant.finish()
    finally:
        for contestant in everyone:
            contestant.kill()
    one, several, apart = (statistics.median(speeds) for speeds in zip(*turns, strict=True))
    ratio, ceiling = (statistics.median(turn[place] / turn[0] for turn in turns) for place in (1, 2))
    return Outcome(one, several, apart, ratio, ceiling)


def _team(job: Job, processes: int) -> list[Contestant]:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes))
    return [Contestant(OURS, job, ONE_THREAD | meeting | rank) for rank in ranks]


def _speed(contestants: list[Contestant], job: Job) -> float:
    """Images a second of one round that all begin together."""
    for contestant in contestants:
        contestant.wait_until_ready()
    for contestant in contestants:
        contestant.begin()
    seconds = max(contestant.end().seconds for contestant in contestants)
    return len(contestants) * job.batch * job.steps / seconds


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--method", choices=["lora", "full"], default="full", help="full: the gradients of the whole U-Net are averaged")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=256, help="pixels a side, a multiple of 64")
    parser.add_argument("--batch", type=int, default=4, help="images a step of each process")
    parser.add_argument("--steps", type=int, default=10, help="updates a round")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        from benchmarks.make_model import write

        model = Path(folder) / "small.safetensors"
        write(model, "v1", "small")
        job = Job(chosen.method, chosen.resolution, chosen.batch, "no", 4, False, False, "cpu", chosen.steps, 3, str(model))
        outcome = compare(job, chosen.processes, chosen.rounds)
    print(f"one process: {outcome.one:.2f} images a second; {chosen.processes} processes: {outcome.several:.2f}; ratio {outcome.ratio:.2f}")
    print(f"{chosen.processes} that do not meet: {outcome.apart:.2f}; ratio {outcome.ceiling:.2f}")
    load, cores = getattr(os, "getloadavg", lambda: (0.0,))()[0], os.cpu_count() or 1
    if cores < chosen.processes or load > chosen.processes + 0.5:
        print(f"{cores} cores, {load:.1f} processes wanting them: the figures are no measurement; use a quiet machine")


if __name__ == "__main__":
    main()
