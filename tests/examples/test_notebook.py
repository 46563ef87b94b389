"""The notebook for people without a GPU goes through from top to bottom, and continues after a disconnect."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from examples.subject import write_subject

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "train_lora.ipynb"
MODEL = ROOT / "examples" / "small_model" / "small_sd.safetensors"
SETTINGS = {
    "NAME": "zxc", "IDENTIFIER": "zxc", "CLASS": "star", "RESOLUTION": 64, "REPEATS": 1, "BATCH_SIZE": 4, "RANK": 2, "ENVIRONMENT": "",
    "PROMPTS": ["a zxc star on a red background"], "SAMPLE_OPTIONS": "--w 64 --h 64 --s 2 --l 2.5",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _kernel_of_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jupyter finds the kernel of the Python that runs the tests, and writes nothing outside the test's folder."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield


def filled(**settings: object) -> nbformat.NotebookNode:
    """The notebook with these values in its cell of settings."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    for name, value in (SETTINGS | settings).items():
        cell.source, count = re.subn(rf"^{name} = .*$", lambda _, name=name, value=value: f"{name} = {value!r}", cell.source, flags=re.M)
        assert count == 1, name
    return notebook


def client(notebook: nbformat.NotebookNode, folder: Path = ROOT / "examples") -> NotebookClient:
    """Executes the notebook as if it was opened in this folder."""
    return NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}})


def output(notebook: nbformat.NotebookNode, cell: str) -> str:
    """What a cell has printed, and the HTML that it shows."""
    (found,) = [one for one in notebook.cells if one.id == cell]
    return "".join(one.get("text", "") or one.get("data", {}).get("text/html", "") for one in found.outputs)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    images = tmp_path / "my work" / "images"
    write_subject(images)
    return images.parent


def test_it_holds_no_results_and_every_cell_has_a_name() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and not cell.outputs for cell in code)
    assert len(code) <= 10
    for cell in code:
        compile(cell.source, cell.id, "exec")


GOOGLE_COLAB = """
import pathlib
class files:
    def upload():
        return {path.name: path.read_bytes() for path in pathlib.Path(UPLOADS).iterdir()}
    def download(name):
        print("downloading", name)
class drive:
    def mount(place):
        print("mounting", place)
"""


def test_it_goes_through_on_colab(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colab asks for the images and downloads the file; `google.colab` is a small stand-in here."""
    package = tmp_path / "colab" / "google" / "colab.py"
    package.parent.mkdir(parents=True)
    package.write_text(f"UPLOADS = {str(work / 'images')!r}\n{GOOGLE_COLAB}", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "colab"), str(ROOT)]))
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    images, work = work / "images", tmp_path / "on colab"
    notebook = filled(WORK=str(work), MODEL=str(MODEL), EPOCHS=1)
    client(notebook).execute()
    assert {path.name for path in images.iterdir()} == {path.name for path in (work / "images").iterdir()}
    assert "mounting" not in output(notebook, "install")  # WORK is not in the drive
    assert f"downloading {work / 'output' / 'zxc.safetensors'}" in output(notebook, "download")
    _check_pages(notebook, work)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["kaggle", "any server"])
def test_it_goes_through(place: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if place == "kaggle":
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    notebook = filled(WORK=str(work), MODEL=str(MODEL), EPOCHS=1)
    client(notebook).execute()
    assert ("Kaggle: the file is in the Output section" in output(notebook, "download")) == (place == "kaggle")
    _check_pages(notebook, work)


def _check_pages(notebook: nbformat.NotebookNode, work: Path) -> None:
    assert "8 images" in output(notebook, "images")
    assert "<iframe" in output(notebook, "plan") and "<iframe" in output(notebook, "compare")
    assert "continuing" not in output(notebook, "train")
    shown = output(notebook, "samples")
    assert shown.count("data:image/png;base64,") >= 2 and "zxc_e" not in re.sub(r"alt=.*?(?=&gt;|>)", "", shown)
    assert str(work / "output" / "zxc.safetensors") in output(notebook, "download")


@pytest.mark.slow
def test_a_second_time_it_trains_only_what_is_new(work: Path) -> None:
    client(filled(WORK=str(work), MODEL=str(MODEL), EPOCHS=1)).execute()
    again = filled(WORK=str(work), MODEL=str(MODEL), EPOCHS=2)
    client(again).execute()
    assert "continuing after 2 updates" in output(again, "train")
    with_nothing_new = filled(WORK=str(work), MODEL=str(MODEL), EPOCHS=2)
    client(with_nothing_new).execute()
    assert output(with_nothing_new, "train").startswith("2 epochs are trained; to train longer, raise EPOCHS")


def test_no_images_are_said_where_they_go(tmp_path: Path) -> None:
    notebook = filled(WORK=str(tmp_path / "empty"), MODEL=str(MODEL), EPOCHS=1)
    with pytest.raises(CellExecutionError, match="has no images; put 10 to 40 images there"):
        client(notebook).execute()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the kernel and its training are killed as a group")
def test_after_a_disconnect_the_result_is_that_of_an_uninterrupted_run(work: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(work, whole)
    settings = {"MODEL": str(MODEL), "EPOCHS": 4, "REPEATS": 8}
    client(filled(WORK=str(whole), **settings)).execute()
    with pytest.raises((DeadKernelError, CellExecutionError)):
        _execute_and_kill(filled(WORK=str(work), **settings), lambda: any((work / "output").glob("zxc-000002-state/state.json")))
    assert not (work / "output" / "zxc.safetensors").exists()
    again = filled(WORK=str(work), **settings)
    client(again).execute()
    assert "continuing after" in output(again, "train")
    names = sorted(path.name for path in (whole / "output").glob("*.safetensors"))
    assert names == sorted(path.name for path in (work / "output").glob("*.safetensors")) and len(names) == 4
    from safetensors.numpy import load_file

    for name in names:
        ours, theirs = load_file(work / "output" / name), load_file(whole / "output" / name)
        assert ours.keys() == theirs.keys() and all((ours[key] == theirs[key]).all() for key in ours), name


def _execute_and_kill(notebook: nbformat.NotebookNode, reached: Callable[[], bool]) -> None:
    """Execute until the condition holds, then kill the kernel with all that it has started, as a vanished machine does."""
    runner = client(notebook)

    def watch() -> None:
        while not reached():
            time.sleep(0.05)
        os.killpg(os.getpgid(runner.km.provisioner.pid), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    runner.execute()
