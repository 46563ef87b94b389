"""What a process of its own takes from its start to its end, as the system counts it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Usage:
    """CPU seconds of all threads, and the largest resident memory."""

    cpu_s: float
    peak_bytes: int


def usage_of(command: Sequence[object], codes: Sequence[int] = (0,), **environment: str) -> Usage:
    """Run a command from the project's folder, offline and with one thread, and wait for it; raises RuntimeError with what it said where it
    ends with none of the `codes`."""
    settings = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment
    settings.pop("PYTHONDONTWRITEBYTECODE", None)  # users have the suite's modules compiled after the first start
    argv = list(map(str, command))
    process = subprocess.Popen(argv, cwd=ROOT, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        raise RuntimeError(f"{argv[1]}: exit code {process.returncode}: {told.decode(errors='replace')[-500:]}")
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)  # Linux counts in KiB
