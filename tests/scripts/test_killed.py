"""kill -9 and SIGTERM at any moment: what is on the disk loads, and the run ends as one that nothing disturbed, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

import train_network
from library.data.loading.dataset import TrainingDataset
from library.model.bundle import StableDiffusion
from library.training.samples.run_samples import RunSamples
from library.training.saving import run_saves
from library.training.states.saved_state import read_own
from tests.scripts.running import kept as names
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start

UPDATES = 8


@pytest.fixture
def options(tiny_v1: Path, photos: Path, tmp_path: Path):
    def made(folder: str, **changes: object) -> dict[str, object]:
        common: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v1,
            "dataset_config": dataset(tmp_path / "data.toml", photos, subset="flip_aug = true"),
            "output_dir": tmp_path / folder,
            "output_name": "cat",
            "network_module": "networks.lora",
            "network_dim": 2,
            "network_dropout": 0.3,
            "max_train_steps": UPDATES,
            "learning_rate": 1e-3,
            "cache_latents": True,
            "seed": 7,
            "save_precision": "float",
            "save_every_n_steps": 1,
            "save_last_n_steps": 2,
            "save_every_n_epochs": 1,
            "save_state": True,
        }
        return {**common, **changes}

    return made


def killed(options: dict[str, object], how: str, chance: random.Random, seconds: float) -> bool:
    """Start the script in a fork and kill it, by the clock or at some write or some encoding; whether it was still there."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if how == "writing":
                _kill_at_call(os, "fsync", chance.randrange(1, 60))
            elif how == "caching":
                _kill_at_call(StableDiffusion, "moments", chance.randrange(1, 12))
            os._exit(start(train_network.main, **options))
        finally:
            os._exit(99)
    if how == "clock":
        time.sleep(chance.random() * seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _kill_at_call(owner: object, name: str, call: int) -> None:
    """The process kills itself as `owner.name` is called for the `call`th time, before or after it did its work."""
    real, calls = getattr(owner, name), []

    def counted(*arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    setattr(owner, name, counted)


def newest_state(folder: Path) -> Path | None:
    """Of the states in the folder, all of which load, as do all files, the one with most updates."""
    states = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        if path.suffix == ".safetensors":
            assert load_file(path)
        elif path.name.endswith("-state"):
            states[read_own(path).state.step] = path
            load_file(path / "trained-0.safetensors")
    return states[max(states)] if states else None


def killed_again_and_again(options, tmp_path: Path, moments: list[str], seed: int) -> int:
    """The number of kills that met a living run; raises AssertionError where something is not as it would be without them."""
    chance, met = random.Random(seed), 0
    began = time.monotonic()
    assert not killed(options("whole"), "not at all", chance, 0.0)
    seconds = time.monotonic() - began
    rounds = 1
    for how in moments:
        made = options(f"parts{rounds}")
        state = newest_state(made["output_dir"])
        was_alive = killed(made | {"resume": state}, how, chance, seconds)
        met += was_alive
        state = newest_state(made["output_dir"])
        if state is not None and read_own(state).state.step == UPDATES:  # through: begin again, other moments are left
            if was_alive:  # after the last save, maybe in the middle of the manifest: the next start says that all is done, and tidies up
                assert start(train_network.main, **made, resume=state) == 2
            ends_as(tmp_path / "whole", made["output_dir"])
            rounds += 1
    made = options(f"parts{rounds}")
    assert start(train_network.main, **made, resume=newest_state(made["output_dir"])) == 0
    ends_as(tmp_path / "whole", made["output_dir"])
    return met


def ends_as(whole: Path, parts: Path) -> None:
    """The same names, the same tensors, and nothing half written left."""
    assert names(parts) == names(whole)
    for path in whole.glob("*.safetensors"):
        assert tensors_equal(path, parts / path.name), path.name


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_thirty_kills_do_no_harm(options, tmp_path: Path) -> None:
    moments = ["clock", "writing", "clock", "writing", "caching"] * 6
    met = killed_again_and_again(options, tmp_path, moments, random.SystemRandom().getrandbits(31))
    assert met >= 10, f"only {met} kills met a living run"  # those by the clock may all come too late


def raise_once(at_call: int = 1) -> Callable[[], None]:
    """A function that sends SIGTERM to this process as it is called for the `at_call`th time."""
    calls: list[int] = []

    def act() -> None:
        calls.append(1)
        if len(calls) == at_call:
            signal.raise_signal(signal.SIGTERM)

    return act


def before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, act: Callable[[], None]) -> None:
    """`act()` is called before each call of `owner.name`."""
    real = getattr(owner, name)

    def acting(*arguments, **named):
        act()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, acting)


def test_sigterm_while_loading_sampling_or_saving_ends_within_an_update(options, tmp_path: Path, capsys, monkeypatch) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat --d 1 --w 64 --h 64\n", encoding="utf-8")
    monkeypatch.setattr("library.model.drawing.generate.generate", lambda *_: Image.new("RGB", (64, 64)))
    kept = {"sample_prompts": prompts, "sample_every_n_steps": 1, "save_every_n_steps": 3, "save_last_n_steps": None, "max_train_steps": 5}
    assert start(train_network.main, **options("whole", **kept)) == 0
    for moment, place in (
        # during a step: test_request_files.py and test_resume.py
        ("loading", (TrainingDataset, "__getitem__", raise_once(3))),
        ("sampling", (RunSamples, "_draw", raise_once(3))),
        ("saving a state", (run_saves, "write_state", raise_once())),
    ):
        made = options(moment, **kept)
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            before(patch, *place)
            assert start(train_network.main, **made) == 143, moment
        told = capsys.readouterr().err
        step = int(told.partition("stopped after update ")[2].split()[0])
        assert step in (2, 3), moment
        assert start(train_network.main, **made, resume=made["output_dir"] / f"cat-step{step:08d}-state") == 0
        assert tensors_equal(tmp_path / "whole" / "cat.safetensors", made["output_dir"] / "cat.safetensors"), moment
