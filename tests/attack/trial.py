"""Tries wrong inputs as whole commands and judges how each ends: `python -m tests.attack.trial --count 3000 --seed 1`.

A refusal is one or more clean lines, exit code 2 (1 for a tool that did the rest), in time, nothing written. What is accepted may write.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.cases import TRAINING, Case, case
from tests.attack.fork_server import Answer, ForkServer, fork_server
from tests.paths import wrong_places

IN_TIME = 10.0  # CPU seconds of a refusal: those of an idle machine. What is accepted does its work, which takes as long as it takes
AT_LAST = 120.0  # seconds after which a command hangs: more than any accepted one needs, on a busy machine
DOCTOR = "tools/doctor.py"  # starts processes of its own that import everything, and finds faults as its answer
LONGEST_LINE = 2_000
SMALL = 1 << 18  # bytes of a file that is copied for each case; larger ones are shared
OUR_WORDS = re.compile(r"^(error|warning|critical): ")
NOT_CLEAN = (
    ("traceback", re.compile(r"Traceback \(most recent call last\)|^\s+File \"[^\"]+\", line \d+", re.MULTILINE)),
    ("a warning of a package", re.compile(r"\.py:\d+: \w*Warning|^\w*Warning: |^[\w.]*(Error|Exception): ", re.MULTILINE)),
    ("control characters", re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")),
    (
        "Python's own advice",
        re.compile(r"set_int_max_str_digits|weights_only|maximum recursion depth|object is not|has no attribute|unexpected keyword"),
    ),
)


@dataclass
class Counts:
    """How many cases ended how, and the lines about those that failed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0

    def listed(self) -> str:
        """`70 refused, 29 accepted, 1 hang`."""
        return ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())

    def text(self) -> str:
        """The report."""
        slow = [f"  {seconds:.1f} s of CPU: {what}" for seconds, what in sorted(self.slowest, reverse=True)[:5]]
        return "\n".join(
            [f"{self.outcomes.total()} wrong inputs in {self.seconds:.0f} s: {self.listed()}", "slowest:", *slow, *self.failures]
        )


class WorkingFolders:
    """The folder that each command starts in, with the sound files of all: copied from a template, the large ones linked."""

    def __init__(self, server: ForkServer) -> None:
        self.server = server
        self.folder = Path(tempfile.mkdtemp(prefix="attack-"))
        self.template = self.folder / "template"
        self.template.mkdir()
        made = server.ask("tests.attack.commands:make", {"place": str(self.template)}, 300, cwd=self.template)
        assert made.code == 0, made
        self.shared_at_first = self.shared()
        self.sound = False  # whether the one of the case before can be used again

    def new(self) -> Path:
        """One with the sound files; a new one where the case before has left another."""
        place = self.folder / "work"
        if self.sound:
            return place
        _remove(place)
        shutil.copytree(self.template, place, symlinks=True, copy_function=_copy)
        return place

    def shared(self) -> dict[str, tuple[int, int, int]]:
        """The large files, which all share: no command may change one in place."""
        return {name: facts for name, facts in tree(self.template).items() if facts[1] > SMALL}

    def remove(self) -> None:
        """Take them all away."""
        _remove(self.folder)


@contextlib.contextmanager
def working_folders(server: ForkServer) -> Iterator[WorkingFolders]:
    """Folders that are removed afterwards."""
    made = WorkingFolders(server)
    try:
        yield made
    finally:
        made.remove()


def tree(folder: Path, base: str = "") -> dict[str, tuple[int, int, int]]:
    """Every file and folder with its kind, size and time of change."""
    found = {}
    try:
        entries = list(os.scandir(folder))
    except PermissionError:
        return {base: (0, 0, 0)}
    for entry in entries:
        seen = entry.stat(follow_symlinks=False)
        name = f"{base}{entry.name}"
        if stat.S_ISDIR(seen.st_mode):
            found[name] = (seen.st_mode, 0, 0)
            found |= tree(Path(entry.path), f"{name}/")
        else:
            found[name] = (seen.st_mode, seen.st_size, seen.st_mtime_ns)
    return found


def attack(server: ForkServer, seed: int, numbers: range, seconds: float = float("inf"), aloud: bool = False, only: str = "") -> Counts:
    """Try these cases of a seed, no new one after so many seconds."""
    counts, again = Counts(), f" --only {shlex.quote(only)}" if only else ""
    with working_folders(server) as folders, wrong_places.made() as places:
        begun = time.monotonic()
        for number in numbers:
            if time.monotonic() - begun > seconds:
                break
            if aloud and number % 100 == 99:
                print(f"… {number + 1} in {time.monotonic() - begun:.0f} s: {counts.listed()}", flush=True)
            outcome, line, used = _one(folders, places, case(seed, number, places, only), f"--seed {seed} --case {number}{again}")
            counts.outcomes[outcome] += 1
            counts.slowest = sorted([*counts.slowest, (used, line)], reverse=True)[:5]
            if outcome not in ("refused", "accepted", "partly done"):
                counts.failures.append(line)
            if aloud and (outcome not in ("refused", "accepted", "partly done") or len(numbers) == 1):
                print(line, flush=True)
        counts.seconds = time.monotonic() - begun
    return counts


def _one(folders: WorkingFolders, places: dict[str, str], tried: Case, again: str) -> tuple[str, str, float]:
    """(outcome, what to print of it, CPU seconds)"""
    work, server = folders.new(), folders.server
    done = tried.prepare(work) if tried.prepare else ""
    roots = (work, Path(places["folder"]).parent, server.folder / "home", server.folder / "tmp")
    before = [tree(root) for root in roots]
    given = {"script": tried.script, "argv": tried.argv}
    seconds = AT_LAST * (5 if "--torch_compile" in tried.argv else 1)  # a C++ compiler builds every kernel
    answer = server.ask("tests.attack.commands:run", given, seconds, work)
    after = [tree(root) for root in roots]
    folders.sound = tried.prepare is None and before[0] == after[0]
    changed = [(root, name) for root, old, new in zip(roots, before, after, strict=True) for name in _changed(old, new)]
    written = [f"{root.name}/{name}" for root, name in changed if root / name != _log_of_a_report(work, tried.argv)]
    outcome = judge(tried.script, answer, written)
    command = shlex.join(["python", tried.script, *tried.argv])
    said = (answer.stderr.strip() or answer.stdout.strip()).encode("ascii", "backslashreplace").decode()
    shown = f"[{outcome}] {tried.what} ({again}) {done}\n    {ascii(command)[:600]}\n    code {answer.code}, {answer.cpu:.1f} s\n"
    more = f"    wrote {written[:5]}\n" if written else ""
    for root in roots[2:]:
        _empty(root)
    if folders.shared() != folders.shared_at_first:
        outcome, more = "changed an input", more + "    a shared input was changed in place\n"
        folders.shared_at_first = folders.shared()  # the next case is judged by itself
    return outcome, shown + more + "\n".join("    " + line[:400] for line in said.splitlines()[-14:]), answer.cpu


def _log_of_a_report(work: Path, argv: Sequence[str]) -> Path | None:
    """The file that --console_log_file names beside --dry_run: the report goes into it, with the errors that it finds."""
    if "--dry_run" not in argv:
        return None
    words = [word.partition("=")[2] for word in argv if word.startswith("--console_log_file=")]
    words += [word for before, word in itertools.pairwise(argv) if before == "--console_log_file"]
    return work / words[-1] if words else None


def judge(script: str, answer: Answer, written: list[str]) -> str:
    """refused, accepted or partly done; or what is wrong with the way it ended."""
    code, heard = answer.code, answer.stderr
    if code is None:
        return "hang"
    if answer.cpu > IN_TIME and code != 0 and script != DOCTOR:
        return "slow"
    if code < 0:
        return f"killed by signal {-code}"
    for name, sign in NOT_CLEAN:
        text = heard + answer.stdout if name == "traceback" else heard.replace("\r", "\n")
        if sign.search(text):
            return name
    if "\x1b" in answer.stdout:
        return "control characters"
    if any(len(line) > LONGEST_LINE for line in heard.splitlines()):
        return "a line without an end"
    if code == 0:
        return "accepted"
    if code not in (1, 2) or (code == 1 and script in TRAINING):
        return f"exit code {code}"
    if script == DOCTOR and code == 1:
        return "accepted"
    if not any(line.startswith("error: ") for line in heard.splitlines()):
        return "no line says why"
    if code == 1:
        return "partly done"
    return "wrote something" if written else "refused"


def _changed(old: dict[str, tuple[int, int, int]], new: dict[str, tuple[int, int, int]]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _copy(source: str, target: str) -> None:
    if os.path.getsize(source) > SMALL:  # noqa: PTH202
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _remove(folder: Path) -> None:
    def open_up(act: object, path: str, fault: object) -> None:
        os.chmod(Path(path).parent, 0o700)  # noqa: PTH101
        os.chmod(path, 0o700, follow_symlinks=True)  # noqa: PTH101
        assert callable(act)
        act(path)

    if folder.exists():
        shutil.rmtree(folder, onerror=open_up)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        _remove(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def main() -> int:
    """Exit code 1 where a case failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--only", default="", help="a pattern: these targets alone, such as 'dataset key' or 'state'")
    given = parser.parse_args()
    numbers = range(given.first, given.first + given.count) if given.case is None else range(given.case, given.case + 1)
    with tempfile.TemporaryDirectory() as folder, fork_server(Path(folder)) as server:
        counts = attack(server, given.seed, numbers, aloud=True, only=given.only)
    print(counts.text() if given.case is None else "")
    return 1 if counts.failures else 0


if __name__ == "__main__":
    sys.exit(main())
