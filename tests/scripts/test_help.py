"""--help, and the answer to a typo, come before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.test_front_ends import TRAINING

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "PIL", "torch", "diffusers", "transformers", "accelerate", "tqdm")
CODE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print("exit", end.code)
print([name for name in HEAVY if name in sys.modules])
"""


@pytest.mark.parametrize("script", TRAINING)
def test_help_and_typos_are_answered_without_numpy(script: str) -> None:
    for argv, code in (["--help"], (0, None)), (["--learning_tare", "1"], (2,)):
        command = [sys.executable, "-c", f"HEAVY = {HEAVY}\n{CODE}", script, *argv]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=300)
        *_, ended, heavy = done.stdout.splitlines()
        assert ended in [f"exit {one}" for one in code] and heavy == "[]", done.stdout[-300:] + done.stderr
