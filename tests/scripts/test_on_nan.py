"""A number that is not finite, injected at a chosen update: what each policy does with it, and that no file ever contains one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_network
from library.methods.network import NetworkMethod
from library.training.states import good_states
from library.training.step import guard
from library.training.step.task import DiffusionTask
from tests.messages import message, refusal
from tests.scripts.running import kept as names
from tests.scripts.running import tensors_equal
from tests.scripts.starting import dataset, start
from tests.scripts.stopping import stop_after


@pytest.fixture
def options(tiny_v1: Path, photos: Path, tmp_path: Path):
    """`options(folder, **changes)`: 9 photographs, one a batch, a state at every second update."""

    def made(folder: str, **changes: object) -> dict[str, object]:
        common: dict[str, object] = {
            "pretrained_model_name_or_path": tiny_v1,
            "dataset_config": dataset(tmp_path / "data.toml", photos, batch_size=1),
            "output_dir": tmp_path / folder,
            "output_name": "cat",
            "network_module": "networks.lora",
            "network_dim": 2,
            "max_train_steps": 12,
            "learning_rate": 1e-3,
            "cache_latents": True,
            "seed": 7,
            "save_precision": "float",
        }
        return {**common, **changes}

    return made


@contextmanager
def broken_images(*steps: int) -> Iterator[list[tuple[int, str]]]:
    """Inside, the images that updates `steps` (from 1) meet first have a loss of NaN ever after; yields (update, image) shown."""
    real, shown, broken = DiffusionTask.forward, [], set()

    def forward(self, batch, step):
        if step + 1 in steps and (step + 1) not in {seen for seen, _ in shown}:
            broken.update(batch.paths[:1])
        shown.extend((step + 1, path) for path in batch.paths)
        loss, per_image = real(self, batch, step)
        factor = torch.tensor([float("nan") if path in broken else 1.0 for path in batch.paths])
        return loss * factor.mean(), per_image * factor

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffusionTask, "forward", forward)
        yield shown


def all_files_are_finite(folder: Path) -> bool:
    files = list(folder.rglob("*.safetensors"))
    assert files
    return all(tensor.isfinite().all() for file in files for tensor in load_file(file).values())


def test_stop_names_update_image_caption_and_timestep(options, capsys) -> None:
    run_options = options("out", save_every_n_steps=2)
    with broken_images(5) as shown:
        assert start(train_network.main, **run_options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    image = next(path for step, path in shown if step == 5)
    refusal(lines[:1], "TRAIN-001", "update 5", "nan")
    message(lines[1:2], f"error: {image}: timestep", "loss nan, caption “")
    assert names(run_options["output_dir"]) == ["cat-step00000002.safetensors", "cat-step00000004.safetensors"]
    assert all_files_are_finite(run_options["output_dir"])


def test_skip_leaves_the_update_out_and_goes_on(options, capsys) -> None:
    run_options = options("out", on_nan="skip", save_every_n_steps=1, save_state=True)
    with broken_images(5):
        assert start(train_network.main, **run_options) == 0
    folder = run_options["output_dir"]
    message(capsys.readouterr().err, "update 5", "nan", "--on_nan skip")
    file = "cat-step{:08d}.safetensors".format
    assert tensors_equal(folder / file(4), folder / file(5))
    assert not tensors_equal(folder / file(5), folder / file(6))
    assert names(folder)[-1] == "cat.safetensors" and all_files_are_finite(folder)
    losses = json.loads((folder / "cat-state" / "state.json").read_text("utf-8"))["state"]["mean"]
    assert losses["total"] == losses["total"]  # no NaN went into the average


def test_rollback_leaves_the_image_out_for_good_also_after_a_resumption(options, capsys) -> None:
    run_options = options("whole", on_nan="rollback", save_state=True, max_train_steps=22)
    with broken_images(5) as shown:
        assert start(train_network.main, **run_options) == 0
        output = capsys.readouterr().err
    image = next(path for step, path in shown if step == 5)
    message(output, "excluded", f"0/0/{Path(image).name}")
    assert [step for step, path in shown if path == image] == [5]
    assert [step for step, _ in shown] == [1, 2, 3, 4, 5, 5, *range(6, 23)]  # update 5 was made after all, of another image
    parts = options("parts", on_nan="rollback", save_state=True, max_train_steps=22)
    with broken_images(5):
        assert stop_after(8, train_network.main, **parts) == 130
    with broken_images() as later:
        assert start(train_network.main, **parts, resume=parts["output_dir"] / "cat-step00000008-state") == 0
    assert image not in {path for _, path in later} and len(later) == 14
    assert tensors_equal(run_options["output_dir"] / "cat.safetensors", parts["output_dir"] / "cat.safetensors")
    assert all_files_are_finite(run_options["output_dir"])


@contextmanager
def broken_weight(update: int) -> Iterator[None]:
    """Inside, the optimizer's update number `update` leaves a NaN in the network, once."""
    real, left = NetworkMethod.after_step, [update]

    def after_step(self, step):
        if left and step + 1 == left[0]:
            left.pop()
            with torch.no_grad():
                next(self.network.module.parameters()).view(-1)[0] = float("nan")
        return real(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkMethod, "after_step", after_step)
        yield


@pytest.mark.parametrize("at", ["memory", "start", "disk"])
def test_rollback_returns_to_the_last_good_state_when_weights_are_broken(options, capsys, monkeypatch, at: str) -> None:
    if at == "memory":
        monkeypatch.setattr(guard, "SNAPSHOT_EVERY", 2)
    elif at == "disk":
        monkeypatch.setattr(good_states, "LARGEST_SNAPSHOT", 0)
    run_options = options("out", on_nan="rollback", save_state=True, save_every_n_steps=None if at == "start" else 3)
    with broken_weight(5):
        assert start(train_network.main, **run_options) == 0
    output = capsys.readouterr().err
    on_disk = run_options["output_dir"] / "cat-step00000003-state"
    back = {"memory": "update 4 (in memory)", "start": "update 0 (in memory)", "disk": f"update 3 ({on_disk})"}
    assert f"went back to {back[at]}" in output
    assert all_files_are_finite(run_options["output_dir"])
    state = json.loads((run_options["output_dir"] / "cat-state" / "state.json").read_text("utf-8"))["state"]
    assert state["step"] == 12 and len(state["left_out"]) == 1


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_broken_weights_are_never_saved(options, capsys, policy: str) -> None:
    run_options = options("out", on_nan=policy, save_every_n_steps=2, save_state=True)
    with broken_weight(4):
        assert start(train_network.main, **run_options) == 2
    refusal(capsys.readouterr().err, "TRAIN-002", "update 4", "--learning_rate", "--resume")
    assert names(run_options["output_dir"]) == ["cat-step00000002-state", "cat-step00000002.safetensors"]
    assert all_files_are_finite(run_options["output_dir"])
