"""Whole runs whose console, bar, logs and events cannot be written: they train to the end, bit for bit, and say so where they can."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import train_network
from library.training.logs.event_log import read_events
from tests import windows_rules
from tests.messages import message
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import before_update
from tests.scripts.test_full_disk import fill

pty = pytest.importorskip("pty", reason="terminals, forks")
UPDATES = 3


@pytest.fixture(scope="module")
def material(tiny_v1: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The options of all runs, and in `whole` what one left that nothing disturbed."""
    folder = tmp_path_factory.mktemp("telling")
    options: dict[str, object] = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(folder / "data.toml", photos),
        "output_name": "cat",
        "network_module": "networks.lora",
        "network_dim": 2,
        "max_train_steps": UPDATES,
        "learning_rate": 1e-3,
        "cache_latents": True,
        "seed": 7,
        "save_precision": "float",
        "save_state": True,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "1")
        assert start(train_network.main, **options, output_dir=folder / "whole") == 0
    return options | {"whole": folder / "whole" / "cat.safetensors"}


def trained(material: dict[str, object], folder: Path, **more: object) -> int:
    options = {name: value for name, value in material.items() if name != "whole"}
    return start(train_network.main, **options, output_dir=folder, **more)


def ends_as_if_nothing_was(material: dict[str, object], folder: Path) -> bool:
    return tensors_equal(material["whole"], folder / "cat.safetensors")


def forked(act: Callable[[], int], begin: Callable[[], None]) -> int:
    """The exit code of `act()` in a separate process, with separate outputs that `begin()` prepares."""
    child = os.fork()
    if child == 0:
        try:
            begin()
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
            sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
            os._exit(act())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _both(target: str | int) -> None:
    handle = os.open(target, os.O_WRONLY) if isinstance(target, str) else target
    os.dup2(handle, 1)
    os.dup2(handle, 2)


def _closed_pipe() -> None:
    reader, writer = os.pipe()
    _both(writer)
    os.close(reader)
    os.close(writer)


def _closed_terminal() -> None:
    master, terminal = pty.openpty()
    _both(terminal)
    os.close(terminal)
    os.close(master)


@pytest.mark.parametrize("begin", [lambda: _both("/dev/full"), _closed_pipe, _closed_terminal], ids=["full", "pipe", "terminal"])
def test_a_run_outlives_its_outputs(material, begin: Callable[[], None], tmp_path: Path) -> None:
    assert forked(lambda: trained(material, tmp_path / "out"), begin) == 0
    assert ends_as_if_nothing_was(material, tmp_path / "out")


def test_a_terminal_that_vanishes_stops_the_run_as_sigterm_does(material, tmp_path: Path) -> None:
    """As where a connection breaks off: the other end of the terminal goes, and the system sends SIGHUP; a shell may send it again."""
    folder, ends = tmp_path / "out", []

    def begin() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests themselves were started with nohup
        os.setsid()
        master, terminal = pty.openpty()
        os.close(os.open(os.ttyname(terminal), os.O_RDWR))  # now it is this session's own
        _both(terminal)
        os.close(terminal)
        ends.append(master)

    def vanish() -> None:
        os.close(ends.pop())
        time.sleep(1.1)
        signal.raise_signal(signal.SIGHUP)

    def act() -> int:
        with before_update(2, vanish):
            return trained(material, folder)

    assert forked(act, begin) == 128 + signal.SIGHUP
    assert trained(material, folder, resume=folder / "cat-step00000002-state") == 0
    assert ends_as_if_nothing_was(material, folder)


def test_a_run_begun_with_nohup_outlives_its_terminal(material, tmp_path: Path) -> None:
    def act() -> int:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with before_update(2, lambda: signal.raise_signal(signal.SIGHUP)):
            return trained(material, tmp_path / "out")

    assert forked(act, lambda: None) == 0


def test_every_log_on_a_full_disk_is_told_once_and_the_run_goes_on(material, small_disk: Path, tmp_path: Path, capsys) -> None:
    logs = small_disk / "logs"
    logs.mkdir()
    material = material | {"logging_dir": logs, "log_tracker_config": tmp_path / "tracker.toml"}
    (tmp_path / "tracker.toml").write_text("[tensorboard]\nmax_queue = 1\n", encoding="utf-8")
    fill(small_disk, 0)
    assert trained(material, tmp_path / "out", console_log_file=small_disk / "run.log") == 0
    output = capsys.readouterr().err
    assert ends_as_if_nothing_was(material, tmp_path / "out") and "Traceback" not in output and "Exception" not in output
    assert output.count("--logging_dir: ") == 1 and output.count("--console_log_file: ") == 1
    message(output, "No space left on device", "training continues")
    message(output, "could not be written")


def test_a_log_on_the_disk_of_the_product_waits_for_room_with_it(material, small_disk: Path, monkeypatch) -> None:
    """`… > out/train.log 2>&1`: the run neither dies of the lines it writes nor forgets to wait (--full_disk_wait)."""
    folder = small_disk / "out"
    folder.mkdir()

    def begin() -> None:
        _both(os.open(folder / "train.log", os.O_WRONLY | os.O_CREAT))

    def act() -> int:
        waits: list[float] = []

        def somebody_makes_room(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                (small_disk / "other").unlink()

        monkeypatch.setattr("library.training.saving.full_disk.sleep", somebody_makes_room)

        def full() -> None:
            fill(small_disk, 0)
            print("x" * 5000, file=sys.stderr)  # more than what is left of the log's last block

        with before_update(2, full):
            return trained(material, folder, full_disk_wait=5) or (0 if len(waits) == 2 else 98)

    assert forked(act, begin) == 0
    assert ends_as_if_nothing_was(material, folder)
    text = (folder / "train.log").read_text(encoding="utf-8")
    assert "result: " in text
    message(text, "No space left on device", "missing here")
    logged = [line["event"] for line in read_events(folder / "events.jsonl")]
    assert logged == ["start", *["update"] * UPDATES, "epoch", "saved", "saved_state", "end"]


def test_an_output_folder_that_is_removed_meanwhile_is_told(material, tmp_path: Path, capsys) -> None:
    def remove() -> None:
        with windows_rules.not_here():
            shutil.rmtree(tmp_path / "out")

    with before_update(3, remove):
        assert trained(material, tmp_path / "out") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "events.jsonl" in line and "removed" in line]
    assert len(lines) == 1
    message(lines, "new file", "training continues")
    events = [line["event"] for line in read_events(tmp_path / "out" / "events.jsonl")]
    assert events == ["update", "update", "epoch", "saved", "saved_state", "end"]
