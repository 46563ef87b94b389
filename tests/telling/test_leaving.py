"""A process with foreign threads leaves with its exit code and its output, and without tearing down the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from library.console import log, run_script
from library.errors import UserError, coded
from library.telling.leaving import leave_at_once
import atexit

class Torn:
    def __del__(self):
        sys.stdout.write("torn down\\n")
        sys.stdout.flush()

torn = Torn()
torn.itself = torn  # freed by the finalization alone
atexit.register(lambda: print("handler"))

def main(argv):
    if "leave" in argv:
        leave_at_once()
    sys.stdout.write("no line end")
    if "refuse" in argv:
        raise UserError(coded("OPT-001", "--x: wrong"))
    if "crash" in argv:
        raise ValueError("crashed")

sys.exit(run_script(main))
"""


@pytest.mark.parametrize(("how", "code"), [("", 0), ("refuse", 2), ("crash", 1)])
@pytest.mark.parametrize("leaves", [True, False])
def test_it_leaves_with_code_and_output_after_the_handlers_of_others(leaves: bool, how: str, code: int) -> None:
    command = [sys.executable, "-c", CODE, how, *(["leave"] if leaves else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == code, done.stderr
    assert "no line end" in done.stdout and "handler" in done.stdout
    assert ("torn down" in done.stdout) == (not leaves)
    assert ("--x: wrong" in done.stderr) == (how == "refuse") and ("ValueError: crashed" in done.stderr) == (how == "crash")
