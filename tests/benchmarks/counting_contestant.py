"""A contestant that trains nothing: it counts the updates that it is asked for and reports the count as its memory."""

from __future__ import annotations

from collections.abc import Callable

import benchmarks.rounds as rounds


def main(update: Callable[[], None] = lambda: None) -> None:
    job = rounds.read_job()
    print("words that must not reach the driver")
    done = 0
    rounds.peak_gib = lambda device: done
    try:
        for _ in rounds.steps(job, {"trained": job.rank}):
            done += 1
            update()
    except rounds.Finished:
        return


if __name__ == "__main__":
    main()
