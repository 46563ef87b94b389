"""Weights & Biases with no account and no network, for real, in a separate folder; and the file of --log_tracker_config."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from library.errors import UserError
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.training.logs.journal import Journal
from library.training.logs.tracker_settings import tracker_settings, trackers
from library.training.logs.wandb_log import WandbLog
from library.training.states.state import TrainState
from tests.messages import message, refusals

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No account anywhere: no key in the environment, no file of logins."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.argv", ["train_network.py", "--wandb_api_key", KEY])
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_an_account_the_run_is_kept_offline(nobody: Path, capsys) -> None:
    pytest.importorskip("wandb")
    tracker = WandbLog(nobody, "my-project", "cat", None, {"tags": ["first"]}, {"seed": 7})
    tracker.log(1, {"loss/current": 0.123456})
    tracker.log(1, {"loss/epoch": 0.5}, epoch=1)
    tracker.log(2, {"loss/current": float("nan")})
    tracker.close()
    assert tracker.failed == 0 and tracker.offline
    (offline_run,) = (nobody / "wandb").glob("offline-run-*")
    assert offline_run == tracker.folder and "wandb sync" in tracker.place()
    (record,) = offline_run.glob("run-*.wandb")
    data = record.read_bytes()
    assert b"my-project" in data and b"loss/epoch" in data and b"first" in data


def test_a_key_goes_nowhere(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = WandbLog(nobody, "p", None, KEY, {}, {})
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    written = contents(nobody)
    assert written and not [name for name, data in written.items() if KEY.encode() in data]
    assert "WANDB_API_KEY" not in os.environ


def test_samples_are_shown_with_their_prompts(nobody: Path) -> None:
    pytest.importorskip("wandb")
    from PIL import Image

    Image.new("RGB", (8, 8)).save(nobody / "a.png")
    tracker = WandbLog(nobody, "p", None, None, {}, {})
    tracker.images(3, [(nobody / "a.png", "a red cat")])
    tracker.close()
    assert tracker.failed == 0
    assert list(tracker.folder.rglob("media/images/sample_0_*.png"))


def test_whatever_wandb_raises_is_counted_and_told_once(nobody: Path, monkeypatch, heard) -> None:
    wandb = pytest.importorskip("wandb")

    def broken(**_: object) -> None:
        raise RuntimeError("no room at the inn\nat all")

    monkeypatch.setattr(wandb, "init", broken)
    tracker = WandbLog(nobody, "p", None, None, {}, {})
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    assert tracker.failed == 1
    assert len(heard.warnings) == 1
    message(heard.warnings, "--log_with", "Weights & Biases", "no room at the inn", "training continues")


# ---- settings


def options(folder: Path, text: str | None, *argv: str) -> TrainNetwork:
    if text is not None:
        (folder / "log.toml").write_text(text, encoding="utf-8")
        argv = (*argv, "--log_tracker_config", str(folder / "log.toml"))
    return parse(TrainNetwork, ["--logging_dir", str(folder), *argv])


def test_which_logs_are_asked_for(tmp_path: Path) -> None:
    assert trackers(parse(TrainNetwork, [])) == ()
    assert trackers(parse(TrainNetwork, ["--log_with", "wandb"])) == ("wandb",)
    for with_, expected in ((None, ("tensorboard",)), ("tensorboard", ("tensorboard",)), ("all", ("tensorboard", "wandb"))):
        assert trackers(options(tmp_path, None, *(("--log_with", with_) if with_ else ()))) == expected


def test_a_table_for_each_tracker(tmp_path: Path) -> None:
    text = '[tensorboard]\nflush_secs = 5\nmax_queue = 3\n[wandb]\nentity = "us"\ntags = ["a"]\n'
    assert tracker_settings(options(tmp_path, text, "--log_with", "all")) == {
        "tensorboard": {"flush_secs": 5, "max_queue_size": 3},
        "wandb": {"entity": "us", "tags": ["a"]},
    }
    assert tracker_settings(options(tmp_path, None)) == {"tensorboard": {}, "wandb": {}}


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("[wandb]\nentitty = 'us'", ("CFG-006", "[wandb] entitty", "entity?")),
        ("[tensorboard]\nflush = 3", ("CFG-006", "[tensorboard] flush", "flush_secs?")),
        ("entity = 'us'", ("CFG-006", "entity")),
        ("[comet]\na = 1", ("CFG-006", "comet")),
        ("[wandb", ("CFG-002", "TOML")),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_place(tmp_path: Path, text: str, asked: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as error:
        tracker_settings(options(tmp_path, text, "--log_with", "all"))
    refusals(error.value, (*asked, "log.toml"))


@pytest.mark.parametrize(
    ("more", "name"),
    [
        (["--wandb_run_name", "third try"], "third try"),
        (["--wandb_run_name", "third try", "--output_name", "cat"], "third try"),
        (["--output_name", "cat", "--log_prefix", "a_"], "a_cat"),
        ([], None),
    ],
)
def test_the_run_has_the_name_that_the_options_give_it(
    more: list[str], name: str | None, nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, object]] = []

    def init(**arguments: object) -> SimpleNamespace:
        started.append(arguments)
        return SimpleNamespace(offline=False, log=lambda *args, **named: None, finish=lambda: None, url="there")

    stand_in = SimpleNamespace(Settings=lambda **settings: settings, init=init, teardown=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    options = parse(TrainNetwork, ["--output_dir", str(nobody), "--log_with", "wandb", *more])
    Journal.from_options(options, TrainState(7))
    (arguments,) = started
    assert arguments["name"] == name and arguments["mode"] == "offline"
