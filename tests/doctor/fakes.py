"""Packages and programs that stand in the way of the real ones, broken as users have them broken."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOADS_NOT = "raise OSError('[WinError 126] The specified module could not be found. Error loading torch_python.dll')"
KILLS = "import os, signal; os.kill(os.getpid(), signal.SIGABRT if os.name == 'posix' else signal.SIGTERM)"
ENDS = "import os; os._exit(3)"
HANGS = "import time; time.sleep(60)"


def package(folder: Path, name: str, code: str) -> None:
    """A package of that name whose import runs `code`."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "__init__.py").write_text(code + "\n", encoding="utf-8")


def distribution(folder: Path, name: str, version: str) -> None:
    """What pip leaves of an installed package: its version."""
    place = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")


def program(folder: Path, name: str, code: str) -> None:
    """A program on the PATH, a shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{code}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def doctor(*words: str, packages: Path | None = None, programs: Path | None = None, cwd: Path = ROOT, **variables: str) -> tuple[int, str]:
    """Start tools/doctor.py as a user does; exit code, and what it printed."""
    surroundings = os.environ | variables
    if packages is not None:
        surroundings["PYTHONPATH"] = str(packages)
    if programs is not None:
        surroundings["PATH"] = os.pathsep.join([str(programs), os.environ["PATH"]])
    command = [sys.executable, str(ROOT / "tools" / "doctor.py"), *words]
    done = subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, encoding="utf-8", errors="replace")
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def lines_of(text: str, level: str) -> list[str]:
    """The findings of one level, the level left out."""
    return [line[7:] for line in text.splitlines() if line.startswith(f"{level:<7}")]
