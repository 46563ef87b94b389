"""Models by their names on the Hub, from a server that plays it: what is downloaded, what the cache is enough for, and each refusal."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from library.model.family import V1
from library.model.files.facts import OPTION, inspect
from library.model.files.locate import locate
from tests.hub_server import FakeHub, fake_hub, let_in
from tests.listening import Heard
from tests.messages import message, refused

NAME = "someone/some-model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folders: dict[str, Path]):
    """A hub with a model whose U-Net is there in several formats."""
    with fake_hub() as served:
        let_in(monkeypatch, tmp_path, served)
        monkeypatch.setenv("HF_TOKEN", served.token)
        files = {path.relative_to(folders["v1"]).as_posix(): path.read_bytes() for path in folders["v1"].rglob("*") if path.is_file()}
        more = (
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "v1.ckpt",
            "safety_checker/config.json",
        )
        served.add(f"models/{NAME}", files | {name: b"{}" for name in more})
        yield served


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers at the address of the hub."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")


def weights_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".safetensors", ".bin", ".ckpt"))


def test_a_name_becomes_a_folder_in_the_cache_with_one_file_of_weights_for_each_part(hub: FakeHub) -> None:
    assert inspect(NAME).family is V1
    folder = inspect(NAME).path
    assert weights_in(folder) == []
    assert locate(NAME, "--vae") == folder
    assert weights_in(folder) == [
        "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("without", [offline, cut_off])
def test_without_a_network_the_cache_is_enough(hub: FakeHub, without, monkeypatch: pytest.MonkeyPatch, heard: Heard) -> None:
    """Although the hub has more formats of the weights than the cache."""
    folder = locate(NAME, "--vae")
    without(monkeypatch)
    assert locate(NAME, "--vae") == locate(NAME, "--vae", with_weights=False) == folder
    assert bool(heard.warnings) == (without is cut_off)
    if heard.warnings:
        message(heard.warnings, f"--vae '{NAME}'", "cannot be reached", "ConnectError", "cache")


@pytest.mark.parametrize("with_weights", [False, True])
def test_without_a_network_and_a_copy_the_remedy_is_a_local_file(hub: FakeHub, with_weights: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(monkeypatch)
    with refused("MODEL-003", f"--vae '{NAME}'", "cannot be reached", "use the path of a local file"):
        locate(NAME, "--vae", with_weights)
    offline(monkeypatch)
    with refused("MODEL-003", f"{OPTION} '{NAME}'", "HF_HUB_OFFLINE is set", "use the path of a local file"):
        inspect(NAME)


def test_configs_alone_are_no_copy_of_the_weights(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    inspect(NAME)
    offline(monkeypatch)
    assert inspect(NAME).family is V1
    with refused("MODEL-003", f"--vae '{NAME}'", "nor in the Hub's cache"):
        locate(NAME, "--vae")


def test_terms_that_nobody_accepted_are_told_with_their_page(hub: FakeHub) -> None:
    hub.gated.add(f"models/{NAME}")
    with refused("MODEL-002", f"{OPTION} '{NAME}'", f"{hub.address}/{NAME}", "accept", "hf auth login") as error:
        inspect(NAME)
    assert len(error.value.lines) == 1 and "\n" not in error.value.lines[0]


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "hf auth login"), (403, "hf auth login"), (429, "try again later"), (500, "try again later")]
)
def test_a_hub_that_answers_with_a_refusal_is_not_said_to_be_unreachable(hub: FakeHub, status: int, remedy: str) -> None:
    hub.status = status
    with refused("MODEL-003", f"{OPTION} '{NAME}'", status, remedy) as error:
        inspect(NAME)
    assert "cannot be reached" not in str(error.value)


def test_a_cache_on_a_full_disk_is_told_as_such(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    inspect(NAME)
    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with refused("MODEL-003", f"--vae '{NAME}'", tmp_path / "cache", "No space left on device", "free some space", "HF_HOME"):
        locate(NAME, "--vae")


def test_a_name_that_the_hub_does_not_have_or_no_model_can_have_is_told(hub: FakeHub) -> None:
    with refused("MODEL-001", f"{OPTION} 'someone/other'", "no model on the Hugging Face Hub", "check the spelling"):
        inspect("someone/other")
    with refused("MODEL-001", f"{OPTION} 'some--one/model'", "--", "check the path"):
        inspect("some--one/model")
