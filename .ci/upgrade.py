"""`make upgrade`: new versions for the requirement files and constraints.txt, kept only if the tests pass with them.

Needs the network. In a temporary copy of the working tree it drops the pins, resolves anew for Python 3.10 to 3.13 on
Linux, Windows and macOS within the bounds of docs/architecture.md (its table of known traps), installs the result in an
environment of its own and runs `pip check` and the tests there. Then it shows what changed.

    python .ci/upgrade.py              resolve, test, keep
    python .ci/upgrade.py --no-test    resolve and keep; run the tests yourself
    python .ci/upgrade.py --same       make constraints.txt anew around the versions that the requirement files name
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from locked import CONSTRAINTS, FILES, MACHINES, PYTHONS, ROOT, Line, lines_of, read, traps, versions

UV = "uv==0.13.9"
HEADER = f"""# Every package that the requirement files draw in, for Python {PYTHONS[0]} to {PYTHONS[-1]} on Linux, Windows and macOS.
# Made by `make upgrade` (docs/architecture.md, "Dependencies"); do not edit. Use it with every install:
#   pip install -r requirements.txt -c constraints.txt
"""


def main() -> int:
    """Exit code: 0 when the new files are in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-test", action="store_true", help="keep the new versions without running the tests")
    parser.add_argument("--same", action="store_true", help="keep the versions of the requirement files; renew only what they draw in")
    chosen = parser.parse_args()
    old = {file: (ROOT / file).read_text(encoding="utf-8") for file in (*FILES, CONSTRAINTS) if (ROOT / file).is_file()}
    with tempfile.TemporaryDirectory(prefix="upgrade-", ignore_cleanup_errors=True) as scratch:
        python = _environment(Path(scratch) / "venv")
        resolved = _resolve(python, Path(scratch), chosen.same)
        new = {file: old[file] if chosen.same else _repinned(old[file], resolved) for file in FILES} | {CONSTRAINTS: HEADER + resolved}
        changes = _changes(old.get(CONSTRAINTS, ""), new[CONSTRAINTS])
        print("\n".join(changes) or "no version changed")
        if not chosen.no_test and not _tests_pass(python, Path(scratch) / "clone", new):
            print("error: the tests fail with these versions, so nothing was changed; bound the package at fault in docs/architecture.md")
            return 1
    for file, text in new.items():
        (ROOT / file).write_text(text, encoding="utf-8", newline="\n")
    print(f"written: {', '.join(new)}; read the difference (git diff), then commit it")
    return 0


def _environment(folder: Path) -> Path:
    """Python of a new environment that has uv."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = next(path for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if path.exists())
    subprocess.run([str(python), "-m", "pip", "install", "-q", UV], check=True)
    return python


def _resolve(python: Path, scratch: Path, same: bool) -> str:
    """The pins of all packages, as uv writes them, for all of PYTHONS and all systems."""
    wanted = [line for file in FILES for line in read(file)]
    names = {line.requirement.name for line in wanted}
    entries = sorted({str(line.requirement) for line in wanted} if same else names)
    bounds = [f"{name}{bound}" for name, bound in traps().items()]
    (scratch / "wanted.in").write_text("\n".join(entries) + "\n", encoding="utf-8")
    (scratch / "bounds.in").write_text("\n".join(bounds) + "\n", encoding="utf-8")
    command = [str(python), "-m", "uv", "pip", "compile", "--universal", "--python-version", PYTHONS[0], "--no-python-downloads"]
    command += ["--no-header", "--no-annotate", "--quiet", "wanted.in", "-c", "bounds.in"]
    return subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.PIPE, text=True).stdout


def _repinned(text: str, resolved: str) -> str:
    """A requirement file's text with the versions of `resolved`, a line for each version of a package; comments stay."""
    by_name: dict[str, list[Line]] = {}
    for line in lines_of(resolved):
        by_name.setdefault(line.name, []).append(line)
    out, done = [], set()
    for row in text.splitlines():
        here = lines_of(row)
        if not here:
            out.append(row)
        elif here[0].name not in done:
            done.add(here[0].name)
            pins = [_pin(here[0].requirement.name, line) for line in by_name[here[0].name]]
            comments = [line.comment for line in lines_of(text) if line.name == here[0].name and line.comment]
            out += [f"{pins[0]}  {comments[0]}" if comments else pins[0], *pins[1:]]
    return "\n".join(out) + "\n"


def _pin(name: str, line: Line) -> str:
    marker = f" ; {line.requirement.marker}" if line.requirement.marker else ""
    return f"{name}=={line.version}{marker}"


def _changes(old: str, new: str) -> list[str]:
    """One line for each package whose version changes anywhere."""
    before, after = ([versions(lines_of(text), machine) for machine in MACHINES] for text in (old, new))
    names = sorted({name for machine in (*before, *after) for name in machine})
    rows = []
    for name in names:
        was, now = (sorted({str(machine[name]) for machine in side if name in machine}) for side in (before, after))
        if was != now:
            rows.append(f"  {name:<28} {', '.join(was) or '—':<20} → {', '.join(now) or '—'}")
    return rows


def _tests_pass(python: Path, clone: Path, new: dict[str, str]) -> bool:
    """Whether a copy of the working tree with the new files installs without conflict and passes `make test`'s checks."""
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".venv", "output", "__pycache__", ".*_cache"))
    for file, text in new.items():
        (clone / file).write_text(text, encoding="utf-8", newline="\n")
    steps = (
        [".ci/install.py", "requirements.txt", "requirements-test.txt", "examples/requirements.txt"],
        ["-m", "pip", "check"],
        ["-m", "pytest", "-n", "2", "--dist", "worksteal", "-q", "-m", "not slow and not gpu and not weights"],
    )
    return all(subprocess.run([str(python), *step], cwd=clone).returncode == 0 for step in steps)


if __name__ == "__main__":
    sys.exit(main())
