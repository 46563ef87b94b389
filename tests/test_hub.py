"""Uploads to, and states from, a server that plays the Hub: what arrives, what is tried again, what is reported, and no token anywhere."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from library import console
from library.hub import Repository, StateName, Uploads, fetch_state, state_name
from tests.hub_server import FakeHub, fake_hub, let_in
from tests.listening import Heard
from tests.messages import message, refused


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A hub that huggingface_hub is let to, and no secret known from elsewhere."""
    monkeypatch.setattr(console, "_secrets", set())
    with fake_hub() as served:
        let_in(monkeypatch, tmp_path, served)
        yield served


def uploads(**changes: object) -> Uploads:
    settings = {"repository": Repository("me/x", folder="runs/1"), "token": "hf_right", "delays": (0.0, 0.0)} | changes
    return Uploads(**settings)  # type: ignore[arg-type]


def saved(folder: Path, name: str = "cat.safetensors", content: bytes = b"weights") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def test_a_file_and_a_folder_arrive_in_a_new_private_repository(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "cat-state").mkdir()
    saved(tmp_path / "cat-state", "state.json", b"{}")
    saved(tmp_path / "cat-state", "training.pt", b"moments")
    sent = uploads()
    sent.upload(saved(tmp_path))
    assert hub.files("models/me/x") == {"runs/1/cat.safetensors": b"weights"}  # it exists when `upload` returns
    sent.upload(tmp_path / "cat-state")
    sent.close()
    assert hub.files("models/me/x") == {
        "runs/1/cat.safetensors": b"weights",
        "runs/1/cat-state/state.json": b"{}",
        "runs/1/cat-state/training.pt": b"moments",
    }
    assert hub.repositories["models/me/x"]["private"] is True
    assert (sent.done, sent.failed) == (2, 0)
    assert sent.places() == [f"uploads: {hub.address}/me/x (2 done)"]


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_only_the_word_public_makes_a_repository_public(hub: FakeHub, tmp_path: Path, kind: str) -> None:
    sent = uploads(repository=Repository("me/x", kind, "", private=False))
    sent.upload(saved(tmp_path))
    sent.close()
    assert hub.repositories[f"{kind}s/me/x"]["private"] is False
    assert list(hub.files(f"{kind}s/me/x")) == ["cat.safetensors"]


def test_uploading_privately_into_a_public_repository_is_told(hub: FakeHub, tmp_path: Path, heard: Heard) -> None:
    hub.add("models/me/x", {}, private=False)
    sent = uploads()
    sent.upload(saved(tmp_path))
    sent.close()
    assert len(heard.warnings) == 1
    message(heard.warnings, "--huggingface_repo_id me/x", "public")
    assert sent.done == 1


def test_a_passing_fault_is_tried_again_and_a_lasting_one_counted_and_tried_at_the_end(hub: FakeHub, tmp_path: Path, heard: Heard) -> None:
    hub.faults[:] = [409]
    sent = uploads()
    sent.upload(saved(tmp_path, "a.safetensors"))
    assert (sent.done, sent.failed) == (1, 0)
    hub.faults[:] = [409] * 20  # (5xx huggingface_hub itself tries again, for half a minute)
    sent.upload(saved(tmp_path, "b.safetensors"))
    assert (sent.done, sent.failed) == (1, 1)
    assert len(heard.warnings) == 1
    message(heard.warnings, "b.safetensors", "409", "training continues")
    hub.faults.clear()
    sent.close()
    assert (sent.done, sent.failed) == (2, 0)
    assert sorted(hub.files("models/me/x")) == ["runs/1/a.safetensors", "runs/1/b.safetensors"]


def test_a_wrong_token_is_told_at_once_without_showing_it_and_never_raised(hub: FakeHub, tmp_path: Path, heard: Heard) -> None:
    console.keep_secret("hf_wrong")
    sent = uploads(token="hf_wrong")
    sent.upload(saved(tmp_path))
    sent.close()
    assert (sent.done, sent.failed) == (0, 1)
    first, second = heard.warnings
    message(first, "--huggingface_repo_id me/x", "401")
    message(second, "cat.safetensors", "401", "--huggingface_token")
    assert "hf_wrong" not in first + second


def test_a_token_that_breaks_a_header_is_not_repeated_in_the_error(hub: FakeHub, tmp_path: Path, heard: Heard) -> None:
    secret = "hf_bad\nvalue"
    console.keep_secret(secret)
    sent = uploads(token=secret)
    sent.upload(saved(tmp_path))
    sent.close()
    assert sent.failed == 1 and heard.warnings
    assert not [line for line in heard.warnings if "hf_bad" in line]


def test_in_the_background_training_goes_on_until_a_file_has_to_go(hub: FakeHub, tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow:
        def repo_info(self, *_: object, **__: object) -> None:
            return None

        def upload_file(self, path_or_fileobj: str, **_: object) -> None:
            assert gate.wait(60)
            assert Path(path_or_fileobj).exists()

    sent = uploads(background=True, api=Slow())
    path = saved(tmp_path)
    sent.upload(path)
    assert sent.done == 0  # and the gate is still shut
    threading.Timer(0.2, gate.set).start()
    sent.release(path)  # the checkpointer is about to delete it
    assert sent.done == 1
    path.unlink()
    sent.close()


# ---- states


def test_a_states_name_is_read_as_users_type_it() -> None:
    assert state_name("me/x/path/test-000002-state:main:model") == StateName("me/x", "path/test-000002-state", "main", "model")
    assert state_name("me/x/test-state") == StateName("me/x", "test-state", None, "model")
    assert state_name("me/x/test-state:v1") == StateName("me/x", "test-state", "v1", "model")
    assert state_name("me/x/test-state::dataset") == StateName("me/x", "test-state", None, "dataset")


@pytest.mark.parametrize("text", ["me/x", "test-state", "me/x/s:main:modle", "me/x/s:main:model:more", "C:/me/x/s:main:model:x"])
def test_another_form_of_name_is_told(text: str) -> None:
    with refused("HUB-001", "--resume", text):
        state_name(text)


def test_a_state_comes_from_the_hub_as_a_folder(hub: FakeHub) -> None:
    files = {"runs/1/cat-state/state.json": b"{}", "runs/1/cat-state/training.pt": b"moments", "runs/1/cat.safetensors": b"large"}
    hub.add("models/me/x", files)
    folder = fetch_state("me/x/runs/1/cat-state:main:model", "hf_right")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"state.json": b"{}", "training.pt": b"moments"}
    assert not any(request.endswith("cat.safetensors") for request in hub.requests)


def test_what_is_not_there_is_told_in_one_line(hub: FakeHub) -> None:
    hub.add("models/me/x", {"other-state/state.json": b"{}"})
    with refused("HUB-003", "me/x", "cat-state", "revision main"):
        fetch_state("me/x/cat-state", "hf_right")
    with refused("HUB-002", "--resume me/y/cat-state") as error:
        fetch_state("me/y/cat-state", "hf_right")
    assert "\n" not in str(error.value)
