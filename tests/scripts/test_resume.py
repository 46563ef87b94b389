"""A run that is stopped and resumed ends as one that never was, bit for bit, with the files that one has."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import train_db
import train_network
import train_textual_inversion
from library.training.logs.event_log import read_events
from library.training.states.saved_state import read_own
from library.training.step.update import Gradients
from tests.messages import message, refusal
from tests.scripts.running import kept as names
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import stop_after

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path, photos: Path) -> Path:
    """9 photographs in three buckets of 3 make 6 batches of 2 an epoch."""
    more = "shuffle_caption = true\nflip_aug = true\n"
    path = dataset(tmp_path / "data.toml", photos, subset=more)
    buckets = "enable_bucket = true\nmin_bucket_reso = 32\nmax_bucket_reso = 128\nbucket_reso_steps = 16\n"
    path.write_text(path.read_text(encoding="utf-8").replace("batch_size", f"{buckets}batch_size"), encoding="utf-8")
    return path


@pytest.fixture
def lora(tiny_v1: Path, config: Path, tmp_path: Path):
    """`lora(folder, **options)` trains a network with all that draws by chance; `lora.options` are its options."""

    def options(name: str, **changes: object) -> dict[str, object]:
        common: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v1,
            "dataset_config": config,
            "output_dir": tmp_path / name,
            "output_name": "cat",
            "network_module": "networks.lora",
            "network_dim": 2,
            "network_dropout": 0.3,
            "max_train_steps": 9,
            "learning_rate": 1e-2,
            "lr_scheduler": "cosine",
            "lr_warmup_steps": 4,
            "cache_latents": True,
            "max_data_loader_n_workers": 0,
            "seed": 7,
            "save_precision": "float",
        }
        return {**common, **changes}

    def train(name: str, **changes: object) -> Path:
        assert start(train_network.main, **options(name, **changes)) == 0
        return tmp_path / name

    train.options = options  # type: ignore[attr-defined]
    return train


def test_limited_norms_in_half_precision_go_on(lora) -> None:
    """What is random, counted and named in a resumed run is in test_exact_resume.py."""
    kind = {"mixed_precision": "bf16", "scale_weight_norms": 0.05, "max_train_steps": 3}
    whole = lora("whole", **kind)
    options = lora.options("parts", save_state=True, **kind)
    assert stop_after(2, train_network.main, **options) == 130
    assert start(train_network.main, **options, resume=options["output_dir"] / "cat-step00000002-state") == 0
    assert tensors_equal(whole / "cat.safetensors", options["output_dir"] / "cat.safetensors")


def test_a_whole_model_goes_on_after_its_text_encoder_has_stopped(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    common: dict[str, object] = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": config,
        "max_train_steps": 5,
        "stop_text_encoder_training": 2,
        "learning_rate": 1e-4,
        "max_data_loader_n_workers": 0,
        "seed": 1,
    }
    assert start(train_db.main, **common, output_dir=tmp_path / "whole") == 0
    parts = {**common, "output_dir": tmp_path / "parts", "save_state": True}
    assert stop_after(3, train_db.main, **parts) == 130
    assert start(train_db.main, **parts, resume=tmp_path / "parts" / "at-step00000003-state") == 0
    assert tensors_equal(tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")


def test_a_new_word_goes_on(tiny_v1: Path, config: Path, tmp_path: Path) -> None:
    common: dict[str, object] = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": config,
        "token_string": "zorb",
        "use_object_template": True,
        "init_word": "cat",
        "max_train_steps": 9,
        "learning_rate": 1e-2,
        "max_data_loader_n_workers": 0,
        "save_model_as": "safetensors",
    }
    assert start(train_textual_inversion.main, **common, output_dir=tmp_path / "parts", max_train_epochs=1, save_state=True) == 0
    state = tmp_path / "parts" / "last-state"
    seed = json.loads((state / "state.json").read_text(encoding="utf-8"))["state"]["seed"]  # drawn at random: none was given
    assert start(train_textual_inversion.main, **common, output_dir=tmp_path / "more", resume=state) == 0
    assert start(train_textual_inversion.main, **common, output_dir=tmp_path / "whole", seed=seed) == 0
    assert tensors_equal(tmp_path / "whole" / "last.safetensors", tmp_path / "more" / "last.safetensors")


def test_states_stand_beside_the_files_and_leave_as_they_do(lora, tmp_path: Path) -> None:
    folder = lora("out", save_state=True, save_every_n_steps=2, save_every_n_epochs=1, max_train_epochs=3, save_last_n_steps=4,
                  save_last_n_epochs_state=1, gradient_accumulation_steps=2)  # fmt: skip
    # 3 updates an epoch; the last save by steps is at 8, so those before 4 go; of epoch 1 the file stays and the state goes
    files = [f"cat-step{step:08d}" for step in (4, 6, 8)] + ["cat"]
    remaining = [f"{name}.safetensors" for name in [*files, "cat-000001", "cat-000002"]] + [
        f"{name}-state" for name in [*files, "cat-000002"]
    ]
    assert names(folder) == sorted(remaining)
    assert names(folder / "cat-state") == ["state.json", "trained-0.safetensors", "training.pt"]


def test_without_save_state_a_stopped_run_keeps_its_network_and_says_so(lora, capsys) -> None:
    options = lora.options("out")
    assert stop_after(3, train_network.main, **options) == 130
    assert names(options["output_dir"]) == ["cat-step00000003.safetensors"]
    line = message(capsys.readouterr().err, "update 3 of 9", "no state", "--save_state")
    assert line.startswith("stopped")  # not as a warning


def test_a_changed_command_is_told_line_by_line(lora, capsys, config: Path) -> None:
    first = lora("first", save_state=True, max_train_steps=2, lr_warmup_steps=0)
    config.write_text(config.read_text(encoding="utf-8").replace("batch_size = 2", "batch_size = 1"), encoding="utf-8")
    capsys.readouterr()
    changes = {"learning_rate": 1e-3, "max_train_steps": 15, "seed": 8, "gradient_accumulation_steps": 2, "noise_offset": 0.1}
    second = lora("second", resume=first / "cat-state", **changes, save_every_n_epochs=1, lr_warmup_steps=0)
    since = "changed since the state was saved: "
    lines = [line.partition(since)[2] for line in capsys.readouterr().err.splitlines() if since in line]
    expected = (
        ("--seed 8", "seed, 7"),
        ("--learning_rate", 0.01, 0.001, "--resume_lr new"),
        ("--noise_offset", "not given", 0.1, "from now on"),
        ("images per batch", 2, 1, "epoch 1", "exactly once"),
        ("--gradient_accumulation_steps", 1, 2),
        ("end of the run", "update 2 to 15", "linear, cosine"),
    )
    for line, asked in zip(lines, expected, strict=True):
        message(line, *asked)
    # 2 updates with 3 or 4 of the 9 images are done; the other 5 or 6 make 3 updates of 2 images, later epochs 5
    assert names(second) == ["cat-000001.safetensors", "cat-000002.safetensors", "cat.safetensors"]


def with_facts(state: Path, change: Callable[[dict], object]) -> None:
    facts = json.loads((state / "state.json").read_text(encoding="utf-8"))
    change(facts)
    (state / "state.json").write_text(json.dumps(facts), encoding="utf-8")


def flipped(path: Path, place: int) -> None:
    """One byte that a failing disk has changed."""
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def test_with_other_images_the_epoch_under_way_begins_again_and_its_loss_is_that_of_what_was_shown(lora, capsys, config: Path) -> None:
    assert stop_after(4, train_network.main, **lora.options("first", save_state=True)) == 130
    state = lora.options("first")["output_dir"] / "cat-step00000004-state"
    config.write_text(config.read_text(encoding="utf-8").replace("flip_aug", "num_repeats = 2\nflip_aug"), encoding="utf-8")
    capsys.readouterr()
    second = lora("second", resume=state, max_train_steps=13)
    message(capsys.readouterr().err, "buckets", "epoch 1", "starts again")
    lines = [line for line in read_events(second / "events.jsonl") if line["session"] == read_own(state).state.session]
    losses = [line["loss/current"] for line in lines if line["event"] == "update"]
    (epoch,) = [line["loss/epoch"] for line in lines if line["event"] == "epoch"]
    assert len(losses) == 9 and epoch == pytest.approx(sum(losses) / 9)


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


BROKEN = [
    (lambda state: (state / "training.pt").write_bytes(b"short"), ("STATE-002", "training.pt has 5 bytes")),
    (lambda state: longer(state / "training.pt"), ("STATE-002", "training.pt has ")),
    (lambda state: (state / "trained-0.safetensors").unlink(), ("STATE-002", "trained-0.safetensors is missing")),
    (
        lambda state: (state / "state.json").write_text('{"format": 1, "state": {}}', encoding="utf-8"),
        ("STATE-002", "state.json is damaged"),
    ),
    (lambda state: (state / "state.json").write_text('{"form', encoding="utf-8"), ("STATE-002", "state.json cannot be read")),
    (lambda state: with_facts(state, lambda facts: facts["run"].pop("optimizer")), ("STATE-002", "state.json", "run.optimizer is None")),
    (lambda state: with_facts(state, lambda facts: facts["state"].update(step=-1)), ("STATE-002", "state.json", "step is -1")),
    (lambda state: with_facts(state, lambda facts: facts["run"].update(script="train_db.py")), ("STATE-004", "train_db.py")),
    (lambda state: with_facts(state, lambda facts: facts.update(format=2)), ("STATE-003", "format 2")),
    (lambda state: flipped(state / "trained-0.safetensors", -100), ("STATE-002", "trained-0.safetensors is damaged")),
    (lambda state: flipped(state / "training.pt", 3000), ("STATE-002", "training.pt is damaged")),
    (lambda state: ((state / "state.json").unlink(), (state / "optimizer.bin").touch()), ("STATE-002", "accelerate")),
]


def test_a_state_that_is_no_good_is_told_in_one_line_before_torch_is_needed(lora, capsys, tmp_path: Path) -> None:
    state = lora("out", save_state=True, max_train_steps=1, lr_warmup_steps=0) / "cat-state"

    def refused(folder: Path, **changes: object) -> str:
        capsys.readouterr()
        assert start(train_network.main, **lora.options("again", resume=folder, **changes)) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return line

    for number, (damage, asked) in enumerate(BROKEN):
        broken = tmp_path / f"broken{number}"
        shutil.copytree(state, broken)
        damage(broken)
        refusal(refused(broken), *asked)
    refusal(refused(state.parent), "STATE-001", f"--resume {state}")
    refusal(refused(Path("[" * 5000), dry_run=True), "TRAIN-006", "--dry_run")
    refusal(refused(state.with_name("cat-stat")), "PATH-001", "--resume", f"{state}?")
    refusal(refused(state, max_train_steps=1, lr_warmup_steps=0), "STATE-006", "its only update", "--max_train_steps (now 1)")
    refusal(refused(state, optimizer_type="Lion"), "STATE-004", "--optimizer_type AdamW", "Lion")
    refusal(refused(state, network_dim=4), "STATE-005", "--resume")


def in_a_process(options: dict[str, object], **more: object) -> subprocess.Popen:
    """The script in a separate process and process group: as in a console."""
    argv = [str(part) for name, value in {**options, **more}.items() for part in ([f"--{name}"] if value is True else [f"--{name}", value])]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train_network.py"), *argv],
        env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, path: Path) -> None:
    until = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert path.exists(), process.communicate()[1][-2000:]


@pytest.mark.skipif(os.name == "nt", reason="signals to a group of processes")
def test_signals_to_all_processes_at_any_moment_end_the_run_so_that_it_can_go_on(lora) -> None:
    """Ctrl-C, and later SIGTERM, reach the loader's worker too, as they do in a console and from a job system."""
    kind = {"cache_latents": False, "max_train_steps": 24}
    options = {name: value for name, value in lora.options("parts", save_state=True, **kind).items() if value is not False}
    more: dict[str, object] = {"max_data_loader_n_workers": 1, "save_every_n_steps": 4, "save_last_n_steps": 1}
    for number, code, step in ((signal.SIGINT, 130, 4), (signal.SIGTERM, 143, 12)):
        process = in_a_process({**options, **more})
        wait_for(process, options["output_dir"] / f"cat-step{step:08d}-state")
        time.sleep(random.random() / 2)
        os.killpg(process.pid, number)
        output = process.communicate(timeout=300)[1]
        assert process.returncode == code, output[-2000:]
        assert "Traceback" not in output
        more["resume"] = output.rpartition("repeat the command with --resume ")[2].splitlines()[0]
        assert not [name for name in names(options["output_dir"]) if name.startswith(".")]
    assert start(train_network.main, **options, resume=more["resume"]) == 0
    assert tensors_equal(lora("whole", **kind) / "cat.safetensors", options["output_dir"] / "cat.safetensors")


def test_a_second_signal_ends_at_once(lora, monkeypatch) -> None:
    monkeypatch.setattr("library.training.step.stop_signals.GRACE", -1.0)
    real = Gradients.accumulate

    def accumulate(*arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(Gradients, "accumulate", accumulate)
    options = lora.options("out", save_state=True)
    before = signal.getsignal(signal.SIGINT)
    assert start(train_network.main, **options) == 143
    assert not Path(options["output_dir"]).exists() and signal.getsignal(signal.SIGINT) == before
