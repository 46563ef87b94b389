"""The log as TensorBoard's own reader sees it, and that none of its errors reaches the training."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from library.training.logs.tensorboard_log import Tracker
from tests.messages import message


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_figures_come_back_from_the_log(tmp_path):
    tracker = Tracker(tmp_path)
    tracker.log(1, {"loss/current": 0.5, "lr/unet": 1e-4})
    tracker.log(2, {"loss/current": float("nan")})
    tracker.log(2, {"loss/epoch": 0.25})
    tracker.close()
    figures = read(tracker.folder)
    assert figures["lr/unet"] == [(1, pytest.approx(1e-4))]
    assert figures["loss/current"][0] == (1, 0.5)
    assert figures["loss/current"][1][1] != figures["loss/current"][1][1]
    assert figures["loss/epoch"] == [(2, 0.25)]
    assert tracker.failed == 0


def test_the_log_lies_where_its_users_look_for_it(tmp_path):
    tracker = Tracker(tmp_path, "style1_", "mine", started=1_700_000_000.0)
    assert tracker.folder.parent.parent == tmp_path
    assert re.fullmatch(r"style1_2023111[45]\d{6}", tracker.folder.parent.name)
    assert tracker.folder.name == "mine"
    tracker.close()
    assert list(tracker.folder.glob("events.out.tfevents.*"))


def test_figures_of_an_epoch_stand_at_its_number_and_settings_reach_the_writer(tmp_path):
    tracker = Tracker(tmp_path, settings={"filename_suffix": ".mine"})
    tracker.log(40, {"loss/epoch": 0.5}, epoch=2)
    tracker.close()
    assert read(tracker.folder)["loss/epoch"] == [(2, 0.5)]
    assert [path.name.endswith(".mine") for path in tracker.folder.iterdir()] == [True]


def test_a_log_that_cannot_be_opened_is_told_once_and_the_training_goes_on(tmp_path, heard):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    tracker = Tracker(tmp_path / "file")
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    assert tracker.failed == 2  # the file's first event is one too
    assert len(heard.warnings) == 1
    message(heard.warnings, "--logging_dir:", "Not a directory", "training continues")


def test_failing_writes_are_counted_and_told_once(tmp_path, heard, monkeypatch):
    tracker = Tracker(tmp_path)

    def full(event: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(tracker._writer, "add_event", full)
    for step in range(5):
        tracker.log(step, {"loss": 1.0})
    tracker.close()
    assert tracker.failed == 5
    (line,) = heard.warnings
    assert "No space left" in line


def test_a_missing_tensorboard_is_told_with_its_remedy(tmp_path, heard, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    Tracker(tmp_path).log(1, {"loss": 1.0})
    message(heard.warnings[:1], "pip install -c constraints.txt tensorboard")


def test_importing_the_tracker_imports_neither_torch_nor_tensorboard_and_logging_no_tensorflow(tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('tensorflow was imported')", encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom library.training.logs.tensorboard_log import Tracker\n"
        "print([name for name in ('torch', 'tensorboard') if name in sys.modules])\n"
        f"t = Tracker({str(tmp_path / 'log')!r}); t.log(1, {{'loss': 1.0}}); t.close(); print(t.failed, 'tensorflow' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert (ended.stdout.split("\n"), ended.returncode) == (["[]", "0 False", ""], 0), ended.stderr
