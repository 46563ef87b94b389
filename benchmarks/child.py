"""What a process of its own takes from its start to its end, as the system counts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Linux counts what the starting process had at its largest as the first memory of a new one: a small process starts it.
_BETWEEN = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


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
    between = [sys.executable, "-I", "-S", "-c", _BETWEEN]
    done = subprocess.run([*between, *argv], cwd=ROOT, env=settings, capture_output=True, check=False)
    code, cpu, peak = done.stdout.split() if done.returncode == 0 else (done.returncode, 0, 0)
    if done.returncode or int(code) not in codes:
        raise RuntimeError(f"{argv[1]}: exit code {int(code)}: {done.stderr.decode(errors='replace')[-500:]}")
    return Usage(float(cpu), int(peak) * 1024)  # Linux counts in KiB
