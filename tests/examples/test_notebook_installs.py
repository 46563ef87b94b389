"""The notebook installs the project on a bare machine, and resumes there; it needs the package index, so it is slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from nbclient import NotebookClient

from examples.subject import write_subject
from tests.examples.test_notebook import MODEL, ROOT, filled, output

pytestmark = pytest.mark.slow


@pytest.fixture
def bare_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel in an environment that has ipykernel and nothing else."""
    environment, kernel = tmp_path / "jupyter env", tmp_path / "jupyter" / "kernels" / "python3"
    venv.create(environment, with_pip=True)
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "ipykernel", "-c", ROOT / "constraints.txt"], capture_output=True)
    if done.returncode:
        pytest.skip("the package index cannot be reached")
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the locked versions are for Python 3.10 to 3.13")
def test_it_installs_trains_and_resumes_from_an_empty_folder(bare_jupyter: None, tmp_path: Path) -> None:
    opened, work = tmp_path / "opened here", tmp_path / "drive" / "my lora"
    opened.mkdir()
    write_subject(work / "images")
    for epochs in (1, 2):
        notebook = filled(PROJECT=ROOT.as_uri(), WORK=str(work), MODEL=str(MODEL), EPOCHS=epochs, ENVIRONMENT=".venv")
        NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(opened)}}).execute()
        assert ("installed in" in output(notebook, "install")) == (epochs == 1)
        assert ("continuing after 2 updates" in output(notebook, "train")) == (epochs == 2)
        assert str(work / "output" / "zxc.safetensors") in output(notebook, "download")
    assert (opened / "project" / ".venv" / "installed").is_file()
