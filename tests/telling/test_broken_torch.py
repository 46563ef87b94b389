"""A PyTorch that does not load ends a script with one line; other errors of the import system stay what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.messages import refusal

ROOT = Path(__file__).parents[2]
CODE = "import sys\nfrom library.console import run_script\ndef main(argv):\n    {}\nsys.exit(run_script(main))"


def run(folder: Path, main: str) -> subprocess.CompletedProcess[str]:
    """A script whose first folder of modules is `folder`."""
    paths = {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    command = [sys.executable, "-c", CODE.format(main)]
    return subprocess.run(command, cwd=folder, env={**os.environ, **paths}, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize(
    ("raised", "asked"),
    [
        ("ImportError('libtorch_cpu.so: failed to map segment from shared object')", ("failed to map segment", "close other programs")),
        ("OSError('[WinError 1455] The paging file is too small')", ("1455", "page file")),
        ("OSError('[WinError 126] Error loading fbgemm.dll')", ("fbgemm.dll", "Visual C++")),
    ],
)
def test_a_torch_that_does_not_load_is_one_line(tmp_path: Path, raised: str, asked: tuple[str, ...]) -> None:
    (tmp_path / "torch.py").write_text(f"def load():\n    raise {raised}\nload()\n", encoding="utf-8")
    done = run(tmp_path, "import torch")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    refusal(done.stderr, "PKG-002", "PyTorch", *asked, "tools/doctor.py")


def test_a_fault_outside_of_torch_keeps_its_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, "raise OSError('something else')")
    assert done.returncode == 1 and "Traceback" in done.stderr
