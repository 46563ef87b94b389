"""What all tests share: no hub, no GPU, one thread a process, and small models and photographs made once a session."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.listening import Heard

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes with two threads each would fight for two cores


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Tests give the same figures on a machine with a GPU."""
    if "gpu" not in request.keywords:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "1")


@pytest.fixture(scope="session", autouse=True)
def _windows_rules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test passes that could not on Windows, where a file in use is neither replaced nor removed and some names are none."""
    from tests import windows_rules

    windows_rules.keep(tmp_path_factory.getbasetemp())
    yield
    windows_rules.forget()


@pytest.fixture
def heard() -> "Iterator[Heard]":
    """What the suite's logger says during the test; use it rather than caplog, which hears that logger never, once or twice."""
    from tests.listening import listening

    with listening() as heard:
        yield heard


@pytest.fixture(scope="session")
def tiny_v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An original-layout Stable Diffusion v1 checkpoint of random weights, a few MiB."""
    from tests.small_models import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny_v1.safetensors", "v1")


@pytest.fixture(scope="session")
def tiny_v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for v2."""
    from tests.small_models import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("models") / "tiny_v2.safetensors", "v2")


@pytest.fixture(scope="session")
def tiny_inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of v1 with the nine input channels of an inpainting model."""
    from tests.small_models import write_inpainting

    return write_inpainting(tmp_path_factory.mktemp("models") / "tiny_inpainting.safetensors")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of captioned photographs in several aspect ratios."""
    from examples.photos import write_photos

    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
