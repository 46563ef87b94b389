"""Run heavy jobs in a separate process with a time limit, and read their output, however the process ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from library.doctor.findings import one_line
from library.doctor.heavy import SIGN
from library.parsing.json_text import parse_json

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 180.0  # seconds for all jobs; the first use of a GPU can take a minute, and so can a slow disk

# As for a script in the root: the suite's folder first, and nothing from the current folder.
_START = "import sys; sys.path[0] = sys.argv.pop(1); from library.doctor.heavy import main; main(sys.argv[1:])"


LinesByKind = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Answer:
    """The output of a job, by kind; `failure` says why it did not finish, None if it did."""

    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    failure: str | None = None

    def first(self, kind: str) -> str | None:
        """Return the first line of that kind, or None."""
        return next(iter(self.lines.get(kind, ())), None)

    def all(self, kind: str) -> tuple[str, ...]:
        """Return every line of that kind."""
        return self.lines.get(kind, ())


def ask(jobs: Mapping[str, Sequence[str]], time_limit: float = TIME_LIMIT) -> dict[str, Answer]:
    """Run jobs of `library.doctor.heavy`, name -> words, in one process, since loading torch takes most of the time.

    Never raises for what a job does; a job that ends the process is reported, and the jobs after it run in a new process.
    """
    answers: dict[str, Answer] = {}
    while len(answers) < len(jobs):
        left = [name for name in jobs if name not in answers]
        output, ending = _run([",".join([name, *jobs[name]]) for name in left], time_limit)
        lines = _by_job(output)
        for name in left[: max(len(lines), 1)]:  # in the order in which they started
            answers[name] = _answer(lines.get(name, {}), ending)
    return answers


def _run(words: list[str], time_limit: float) -> tuple[str, str]:
    """Return what the process printed, and how it ended, in words."""
    surroundings = os.environ | {"PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", _START, str(ROOT), *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", env=surroundings, timeout=time_limit
        )
    except subprocess.TimeoutExpired as late:
        output = late.stdout or ""
        return output.decode("utf-8", "replace") if isinstance(output, bytes) else output, f"no answer within {time_limit:.0f} seconds"
    except OSError as reason:
        return "", f"no process can be started ({reason})"
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    said = f" ({one_line(last, 300)})" if last else ""
    return done.stdout, f"the process ended with {_ending(done.returncode)}{said}"


def _by_job(output: str) -> dict[str, LinesByKind]:
    """Return the lines of a process by job and kind."""
    jobs: dict[str, LinesByKind] = {}
    current: LinesByKind = {}
    for line in output.splitlines():
        if not line.startswith(SIGN):  # packages print too
            continue
        try:
            kind, text = parse_json(line.removeprefix(SIGN))
        except ValueError:  # truncated by the time limit
            continue
        if kind == "job":
            current = jobs.setdefault(text, {})
        else:
            current[kind] = (*current.get(kind, ()), text)
    return jobs


def _answer(lines: LinesByKind, ending: str) -> Answer:
    if "failure" in lines:
        return Answer(lines, lines["failure"][0])
    if "done" in lines:
        return Answer(lines)
    stage = lines["stage"][-1] if "stage" in lines else "starting"
    return Answer(lines, f"while {stage}, {ending}" if lines else ending)


def _ending(code: int) -> str:
    """Describe the exit code of a process: the signal's name, or the hexadecimal number on Windows."""
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code:#x}" if code > 255 else f"exit code {code}"
