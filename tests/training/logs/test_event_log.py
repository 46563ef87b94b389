"""events.jsonl: whole lines whatever happens, and after a resume each step once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from library.training.logs.event_log import EventLog, read_events

ROOT = Path(__file__).parents[3]


def steps(folder: Path, session: str = "a") -> list[int]:
    return [found["step"] for found in read_events(folder / "events.jsonl") if found["session"] == session and found["event"] == "update"]


def fill(folder: Path, updates: range, session: str = "a", **start: int) -> None:
    events = EventLog(folder, "cat", session, **start)
    for step in updates:
        events.write("update", step, {"loss/current": step / 4})
    events.close()


def test_a_line_tells_what_when_and_of_which_run(tmp_path):
    fill(tmp_path, range(1, 2))
    (found,) = read_events(tmp_path / "events.jsonl")
    assert found.pop("time") > 1e9
    assert found == {"event": "update", "run": "cat", "session": "a", "step": 1, "loss/current": 0.25}


def test_what_is_no_number_is_still_json(tmp_path):
    events = EventLog(tmp_path, "犬", "a")
    events.write("update", 1, {"loss/current": float("nan"), "files": ["é.png"], "path": Path("x"), "grad_norm": float("inf")})
    events.close()
    text = (tmp_path / "events.jsonl").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert (found["loss/current"], found["grad_norm"], found["files"], found["path"], found["run"]) == (None, None, ["é.png"], "x", "犬")


def test_nothing_is_made_before_there_is_something_to_tell(tmp_path):
    EventLog(tmp_path / "out", "cat", "a").close()
    assert not (tmp_path / "out").exists()


def test_a_resumed_run_takes_its_undone_steps_back_and_leaves_others_alone(tmp_path):
    fill(tmp_path, range(1, 10))
    fill(tmp_path, range(1, 4), session="b")
    fill(tmp_path, range(6, 12), step=5)
    assert steps(tmp_path) == list(range(1, 12))
    assert steps(tmp_path, "b") == [1, 2, 3]


def test_an_epoch_that_is_closed_again_is_told_once(tmp_path):
    events = EventLog(tmp_path, "cat", "a")
    for epoch in (1, 2):
        events.write("epoch", 6 * epoch, {"epoch": epoch})
    events.close()
    resumed = EventLog(tmp_path, "cat", "a", step=12, epoch=1)  # from a state by steps, with the second epoch's end still to come
    resumed.write("epoch", 12, {"epoch": 2})
    resumed.close()
    assert [found["epoch"] for found in read_events(tmp_path / "events.jsonl")] == [1, 2]


def test_half_a_line_is_taken_away(tmp_path):
    fill(tmp_path, range(1, 3))
    with (tmp_path / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "upd')
    assert steps(tmp_path) == [1, 2]
    fill(tmp_path, range(3, 4), step=2)
    assert [json.loads(line)["step"] for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()] == [1, 2, 3]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_process_leaves_every_line_that_it_wrote(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from library.training.logs.event_log import EventLog\n"
        "events = EventLog(Path(sys.argv[1]), 'cat', 'a')\n"
        "for step in range(1, 8): events.write('update', step, {})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert steps(tmp_path) == list(range(1, 8))


def test_a_file_that_cannot_be_written_is_told_once_and_counted(tmp_path, heard):
    (tmp_path / "events.jsonl").mkdir()
    events = EventLog(tmp_path, "cat", "a")
    events.write("update", 1, {})
    events.write("update", 2, {})
    events.close()
    assert events.failed == 2 and len(heard.warnings) == 1
    assert "training continues" in heard.warnings[0]


def test_what_was_saved_at_the_update_of_a_state_is_told_once(tmp_path):
    first = EventLog(tmp_path, "cat", "a")
    first.write("saved", 2, {"file": "cat-step2.safetensors"})
    first.close()  # killed before the state's own line
    for _ in range(2):
        resumed = EventLog(tmp_path, "cat", "a", step=2)
        for event, name in (("saved", "cat-step2.safetensors"), ("saved_state", "cat-step2-state")):
            resumed.write(event, 2, {"file": name})
        resumed.write("samples", 2, {"epoch": None, "files": ["a.png"]})
        resumed.close()
    told = [found["event"] for found in read_events(tmp_path / "events.jsonl")]
    assert told == ["saved", "saved_state", "samples"]


def test_lines_of_others_that_are_none_of_ours_end_nothing(tmp_path):
    odd = ["[" * 100_000, '{"session": "a", "step": "two", "event": "x"}', '{"session": "a", "step": 9, "event": "update"}', "犬"]
    (tmp_path / "events.jsonl").write_text("\n".join(odd) + "\n", encoding="utf-8")
    fill(tmp_path, range(3, 4), step=2)
    assert steps(tmp_path) == [3]
    assert (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()[:2] == odd[:2]
