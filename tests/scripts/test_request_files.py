"""Files `save` and `stop` in the output folder, states at the end only, and runs that begin at a later step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import train_network
from library.data.loading.dataset import TrainingDataset
from library.training.states.saved_state import read_own
from tests.messages import message, refusal
from tests.scripts.running import kept as names
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import before_update, losses

ROOT = Path(__file__).parents[2]


@pytest.fixture
def options(tiny_v1: Path, photos: Path, tmp_path: Path):
    def made(folder: str, **changes: object) -> dict[str, object]:
        """9 photographs make 5 batches of 2 an epoch."""
        common: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v1,
            "dataset_config": dataset(tmp_path / "data.toml", photos),
            "output_dir": tmp_path / folder,
            "output_name": "cat",
            "network_module": "networks.lora",
            "network_dim": 2,
            "max_train_steps": 8,
            "learning_rate": 1e-3,
            "cache_latents": True,
            "seed": 7,
            "save_precision": "float",
        }
        return {**common, **changes}

    return made


def test_a_file_save_and_later_a_file_stop_are_obeyed_and_removed(options, tmp_path: Path, capsys) -> None:
    run_options = options("parts", save_state_on_train_end=True)
    folder = run_options["output_dir"]
    folder.mkdir()
    (folder / "stop").touch()  # from before: meant for another run
    with before_update(2, (folder / "save").touch), before_update(6, (folder / "stop.txt").touch):
        assert start(train_network.main, **run_options) == 130
    output = capsys.readouterr().err
    message(output, "file stop", "removed")
    message(output, "save", "update 2")
    message(output, f"--resume {folder / 'cat-step00000006-state'}")
    stems = ["cat-step00000002", "cat-step00000006"]
    assert names(folder) == sorted(f"{stem}{ending}" for stem in stems for ending in (".safetensors", "-state"))
    for step in (2, 6):
        assert (
            start(train_network.main, **{**run_options, "output_dir": tmp_path / f"{step}"}, resume=folder / f"cat-step{step:08d}-state")
            == 0
        )
    assert names(tmp_path / "2") == ["cat-state", "cat.safetensors"]
    assert tensors_equal(tmp_path / "2" / "cat.safetensors", tmp_path / "6" / "cat.safetensors")


def test_a_wish_that_comes_with_a_planned_save_is_one_save(options, capsys) -> None:
    run_options = options("out", save_every_n_steps=2, max_train_steps=4, save_state_on_train_end=True)
    folder = run_options["output_dir"]
    folder.mkdir()
    with before_update(2, (folder / "save").touch):
        assert start(train_network.main, **run_options) == 0
    assert names(folder) == ["cat-state", "cat-step00000002-state", "cat-step00000002.safetensors", "cat.safetensors"]
    assert capsys.readouterr().err.count("saved ") == 4


@pytest.mark.parametrize(("skip", "images"), [(False, 9), (True, 5)])
def test_a_run_that_begins_at_a_later_step_counts_on_from_there(options, skip: bool, images: int) -> None:
    """Step 7 is the second of the second epoch; without skipping that epoch is shown whole."""
    shown: list[tuple[int, int, int]] = []
    real = TrainingDataset.__getitem__

    def loaded(self, share):
        shown.extend((request.epoch, request.record, request.seed) for request in share)
        return real(self, share)

    run_options = options("whole", max_train_steps=11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingDataset, "__getitem__", loaded)
        assert start(train_network.main, **run_options) == 0
        whole, shown[:] = [entry for entry in shown if entry[0] == 1], []
        with losses() as losses_of_the_parts:
            assert start(train_network.main, **options("out", max_train_epochs=2, save_every_n_steps=3, initial_step=7,
                                                       skip_until_initial_step=skip)) == 0  # fmt: skip
    assert shown == whole[9 - images :]
    assert sorted(losses_of_the_parts) == list(range(8, 8 + 5 - 2 * skip))
    assert names(Path(options("out")["output_dir"])) == ["cat-step00000009.safetensors", "cat.safetensors"]


def test_an_epoch_to_begin_with_wins_over_the_counters_of_a_state(options, capsys) -> None:
    assert start(train_network.main, **options("first", max_train_steps=3, save_state=True)) == 0
    capsys.readouterr()
    state = Path(options("first")["output_dir"]) / "cat-state"
    second = options("second", resume=state, initial_epoch=2, max_train_epochs=3, save_state=True, save_every_n_epochs=1)
    assert start(train_network.main, **second) == 0
    output = capsys.readouterr().err
    message(output, "--initial_epoch 2", 3)
    message(output, "updates: 15", "--max_train_epochs 3", "5 done", "10 to do")
    assert names(second["output_dir"]) == ["cat-000002-state", "cat-000002.safetensors", "cat-state", "cat.safetensors"]
    assert read_own(second["output_dir"] / "cat-000002-state").state.step == 10
    assert start(train_network.main, **options("third", initial_step=8)) == 2
    refusal(capsys.readouterr().err, "STATE-006", "--initial_step", "8 updates", "--max_train_steps")


@pytest.mark.slow
def test_two_processes_stop_after_the_same_update(options) -> None:
    run_options = options("out", max_train_steps=400, save_state=True, save_every_n_steps=3)
    argv = [str(part) for name, value in run_options.items() for part in ([f"--{name}"] if value is True else [f"--{name}", value])]
    process = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(ROOT / "train_network.py"), *argv],
        env=os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    outputs: list[str] = []
    for line in process.stderr:
        outputs.append(line)
        if "cat-step00000003-state" in line:
            (run_options["output_dir"] / "stop").touch()
    process.wait(timeout=300)
    text = "".join(outputs)
    assert process.returncode != 0 and "stopped after update" in text, text[-3000:]
    step = int(text.partition("stopped after update ")[2].split()[0])
    assert read_own(run_options["output_dir"] / f"cat-step{step:08d}-state").state.step == step
    assert not (run_options["output_dir"] / "stop").exists()
