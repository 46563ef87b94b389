"""A disk that fills up: earlier saves stay, no file is incomplete, it is reported, and the run continues if the user asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file

import train_network
from library import files
from library.lora import files as lora_files
from library.training.states import state_files
from library.training.states.saved_state import read_state
from tests.messages import message, refusals
from tests.scripts.running import kept as names
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import before_update


@pytest.fixture
def options(tiny_v1: Path, photos: Path, tmp_path: Path):
    def made(folder: Path, **changes: object) -> dict[str, object]:
        common: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v1,
            "dataset_config": dataset(tmp_path / "data.toml", photos),
            "output_dir": folder,
            "output_name": "cat",
            "network_module": "networks.lora",
            "network_dim": 8,
            "max_train_steps": 5,
            "save_every_n_steps": 1,
            "save_state": True,
            "learning_rate": 1e-3,
            "cache_latents": True,
            "seed": 7,
            "save_precision": "float",
            "full_disk_wait": 0,
        }
        return {**common, **changes}

    return made


def check_what_is_there(folder: Path) -> list[str]:
    """Every file and state is whole, and none is incomplete; returns the names."""
    for path in folder.iterdir():
        assert not path.name.startswith(".")
        if path.suffix == ".safetensors":
            load_file(path)
        elif path.name.endswith("-state"):
            read_state(path)
            load_file(path / "trained-0.safetensors")
    return names(folder)


def fill(folder: Path, leave: int) -> Path:
    """Take all except `leave` bytes of the file system."""
    path = folder / "other"
    with path.open("wb") as file:
        file.write(b"\0" * max(0, files.free_bytes(folder) - leave))
    return path


def test_a_file_system_that_fills_up_while_saving(options, small_disk: Path, capsys, monkeypatch) -> None:
    """As if others had taken the space just after it was checked."""
    run_options = options(small_disk / "out", on_full_disk="continue", save_every_n_steps=2)
    monkeypatch.setattr("library.training.saving.full_disk.MARGIN", -(1 << 30))
    other = small_disk / "other"
    with before_update(3, lambda: fill(small_disk, 100_000)), before_update(5, lambda: other.unlink()):
        assert start(train_network.main, **run_options) == 0
    output = capsys.readouterr().err
    assert output.count("--on_full_disk continue") == 2
    message(output, "2 saves were skipped")
    assert check_what_is_there(small_disk / "out") == [
        "cat-state", "cat-step00000002-state", "cat-step00000002.safetensors", "cat.safetensors",
    ]  # fmt: skip


def test_a_file_system_that_stays_full_ends_the_run_and_harms_nothing(options, small_disk: Path, capsys) -> None:
    with before_update(3, lambda: fill(small_disk, 100_000)):
        assert start(train_network.main, **options(small_disk / "out", save_last_n_steps=1)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    refusals(
        lines,
        ("DISK-002", "cat-step00000003.safetensors", "No space left on device", "--on_full_disk continue"),
        ("DISK-002", "cat-step00000003-state"),
    )
    stems = [f"cat-step{step:08d}" for step in (1, 2)]
    assert check_what_is_there(small_disk / "out") == sorted(f"{stem}{end}" for stem in stems for end in (".safetensors", "-state"))


def test_no_room_wherever_it_shows_is_told_and_what_is_good_stays(options, tmp_path: Path, capsys, monkeypatch) -> None:
    """On every system: the write of update 3 fails after some bytes, in the file and in the state."""
    writes: list[int] = []

    def failing(real):
        def write(tensors, path, *more):
            writes.append(1)
            if len(writes) in (5, 6):
                Path(path).write_bytes(b"half")
                raise OSError(28, "No space left on device") if len(writes) == 5 else SafetensorError("I/O error: (os error 28)")
            return real(tensors, path, *more)

        return write

    monkeypatch.setattr(state_files, "save_file", failing(state_files.save_file))
    monkeypatch.setattr(lora_files.safetensors.torch, "save_file", failing(lora_files.safetensors.torch.save_file))
    assert start(train_network.main, **options(tmp_path / "out", on_full_disk="continue", save_last_n_steps=1)) == 0
    assert capsys.readouterr().err.count("earlier saves are intact") == 2
    assert check_what_is_there(tmp_path / "out") == ["cat-state", "cat-step00000004-state", "cat-step00000004.safetensors",
                                                     "cat.safetensors"]  # fmt: skip
    monkeypatch.undo()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    assert start(train_network.main, **options(tmp_path / "undisturbed", save_every_n_steps=None)) == 0
    assert tensors_equal(tmp_path / "undisturbed" / "cat.safetensors", tmp_path / "out" / "cat.safetensors")


def test_the_last_save_waits_for_room_and_loses_nothing(options, small_disk: Path, capsys, monkeypatch) -> None:
    waits: list[float] = []

    def somebody_makes_room(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            (small_disk / "other").unlink()

    monkeypatch.setattr("library.training.saving.full_disk.sleep", somebody_makes_room)
    run_options = options(small_disk / "out", save_every_n_steps=None, full_disk_wait=5)
    with before_update(5, lambda: fill(small_disk, 100_000)):
        assert start(train_network.main, **run_options) == 0
    assert len(waits) == 2
    message(capsys.readouterr().err, "5 minutes", "--full_disk_wait")
    assert check_what_is_there(small_disk / "out") == ["cat-state", "cat.safetensors"]


def test_a_spare_folder_takes_what_is_saved_at_the_end_and_a_run_goes_on_from_there(
    options, small_disk: Path, tmp_path: Path, capsys
) -> None:
    spare = tmp_path / "spare"
    run_options = options(small_disk / "out", save_every_n_steps=None, spare_dir=spare)
    with before_update(5, lambda: fill(small_disk, 100_000)):
        assert start(train_network.main, **run_options) == 0
    output = capsys.readouterr().err
    assert f"result: {spare / 'cat.safetensors'}" in output
    assert output.count(f"--spare_dir {spare}") == 2
    assert check_what_is_there(spare) == ["cat-state", "cat.safetensors"]
    more = options(tmp_path / "more", save_every_n_steps=None, resume=spare / "cat-state", max_train_steps=6)
    assert start(train_network.main, **more) == 0
    assert start(train_network.main, **options(tmp_path / "whole", save_every_n_steps=None, max_train_steps=6)) == 0
    assert tensors_equal(tmp_path / "whole" / "cat.safetensors", tmp_path / "more" / "cat.safetensors")


def test_a_file_that_is_not_what_was_written_never_takes_its_name(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    for name, write in (
        ("a.safetensors", lambda path: save_file({"x": torch.ones(100)}, path)),
        ("a.pt", lambda path: torch.save({"x": torch.ones(100)}, path)),
    ):
        path = tmp_path / name
        with files.atomic_write(path) as temporary:
            write(temporary)
        good = path.read_bytes()
        for damaged in (good[:-40], good[:200] + b"\0\1\2\3" + good[204:] if name == "a.pt" else good + b"more"):
            with pytest.raises(OSError, match="differs"), files.atomic_write(path) as temporary:
                temporary.write_bytes(damaged)
            assert path.read_bytes() == good
    assert names(tmp_path) == ["a.pt", "a.safetensors"]


def test_every_librarys_way_to_say_that_a_disk_is_full(tmp_path: Path) -> None:
    for error in (
        OSError(28, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ):
        assert files.is_full(error)
    assert not files.is_full(OSError(13, "Permission denied")) and not files.is_full(RuntimeError("shape mismatch"))
