"""A state's folder: there whole or not at all, read back exactly, and what `--resume_lr` makes of its learning rates."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from library.training.states import state_files
from library.training.states.saved_state import read_state
from library.training.states.state import RunningMean, TrainState
from library.training.states.state_files import check_can_be_kept, load_training, load_weights, write_state
from library.training.states.state_parts import StateParts
from tests.messages import refused


def made(rate: float = 0.1, schedule: str = "lambda"):
    """(method, optimizer, schedule) over one small layer whose weight has two names."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    layer.again = nn.Linear(3, 2)
    layer.again.weight = layer.weight
    optimizer = torch.optim.AdamW([{"params": [layer.weight], "lr": rate}, {"params": [layer.bias], "lr": 2 * rate}])
    curve = LambdaLR(optimizer, lambda step: 1 / (1 + step)) if schedule == "lambda" else CosineAnnealingLR(optimizer, 50)
    return SimpleNamespace(modules=lambda: [layer]), optimizer, curve


def trained(parts, updates: int) -> torch.Tensor:
    """The layer's weight after so many updates towards fixed figures."""
    method, optimizer, schedule = parts
    (layer,) = method.modules()
    for _ in range(updates):
        layer(torch.tensor([1.0, -2.0, 3.0])).square().sum().backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return layer.weight.detach().clone()


def kept(folder: Path, parts, state: TrainState | None = None) -> Path:
    write_state(folder, StateParts(*parts), state or TrainState(5), {"script": "x"})
    return folder


def restored(folder: Path, parts, new_rates: bool = False):
    load_weights(folder, parts[0])
    load_training(folder, parts[1], parts[2], None, new_rates)
    return parts


@pytest.mark.parametrize("schedule", ["lambda", "cosine"])
def test_training_goes_on_as_if_it_had_not_been_interrupted(tmp_path: Path, schedule: str) -> None:
    parts = made(schedule=schedule)
    trained(parts, 3)
    folder = kept(tmp_path / "a-state", parts)
    assert torch.equal(trained(restored(folder, made(schedule=schedule)), 4), trained(parts, 4))


def test_the_gradient_scaler_of_fp16_is_read_back(tmp_path: Path) -> None:
    parts, scaler, fresh = made(), torch.amp.GradScaler("cpu", init_scale=1024.0), torch.amp.GradScaler("cpu")
    write_state(tmp_path / "a-state", StateParts(*parts, scaler), TrainState(5), {})
    load_training(tmp_path / "a-state", *made()[1:], fresh, False)
    assert fresh.state_dict() == scaler.state_dict() and fresh.state_dict()["scale"] == 1024.0


def test_counters_and_averages_are_read_back(tmp_path: Path) -> None:
    state = TrainState(7, 5, 1, 3, mean=RunningMean(4, [0.1, 0.2], 0.3, 2), epoch_losses=[0.1 + 0.2, 1e-300])
    assert read_state(kept(tmp_path / "a-state", made(), state)).state == state


def test_the_rates_of_the_state_are_kept_unless_new_ones_are_asked_for(tmp_path: Path) -> None:
    parts = made(0.1)
    trained(parts, 3)
    folder = kept(tmp_path / "a-state", parts)
    for new, rate in ((False, 0.1), (True, 0.5)):
        _, optimizer, schedule = restored(folder, made(0.5), new)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate / 4, 2 * rate / 4])
        schedule.step()
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate / 5, 2 * rate / 5])


def test_the_rates_of_a_schedule_without_a_formula_are_scaled(tmp_path: Path) -> None:
    parts = made(0.1, "cosine")
    trained(parts, 30)
    _, optimizer, schedule = restored(kept(tmp_path / "a-state", parts), made(0.5, "cosine"), True)
    for _ in range(3):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5 * group["lr"] for group in parts[1].param_groups])
        schedule.step()
        parts[2].step()


def test_a_failure_while_writing_leaves_the_state_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kept(tmp_path / "a-state", made(), TrainState(1))
    for name in ("save_file", "facts_text"):
        with monkeypatch.context() as patch:
            patch.setattr(state_files, name, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            for target in (folder, tmp_path / "b-state"):
                with pytest.raises(OSError, match="No space left"):
                    kept(target, made(), TrainState(2))
    assert [path.name for path in tmp_path.iterdir()] == ["a-state"]
    assert read_state(folder).state.seed == 1


@pytest.mark.parametrize("kill_at", range(1, 14))
def test_a_run_killed_while_writing_leaves_a_whole_state_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int) -> None:
    """Nothing is tidied up after a kill: every file operation may be the last, here those that flush and rename."""

    class Killed(BaseException):
        pass

    calls: list[int] = []

    def counted(real):
        def call(*arguments, **named):
            calls.append(1)
            if len(calls) >= kill_at:
                raise Killed
            return real(*arguments, **named)

        return call

    kept(tmp_path / "a-state", made(), TrainState(1))
    monkeypatch.setattr("library.files.shutil.rmtree", lambda *_, **__: None)
    monkeypatch.setattr("library.files.os.fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    with pytest.raises(Killed):
        kept(tmp_path / "b-state", made(), TrainState(2))
        kept(tmp_path / "a-state", made(), TrainState(2))
    monkeypatch.undo()
    for folder in tmp_path.glob("*-state"):
        read_state(folder)
        restored(folder, made())


def test_what_cannot_be_kept_is_told_before_the_training(tmp_path: Path) -> None:
    _, optimizer, schedule = made()
    optimizer.param_groups[0]["closure"] = lambda: None
    with refused("STATE-008", "--save_state", "--optimizer_type AdamW"):
        check_can_be_kept(optimizer, schedule)


def test_another_schedule_or_other_parameters_are_told(tmp_path: Path) -> None:
    folder = kept(tmp_path / "a-state", made())
    with refused("STATE-004", "LambdaLR", "CosineAnnealingLR", "--lr_scheduler"):
        restored(folder, made(schedule="cosine"))
    _, optimizer, schedule = made()
    optimizer.param_groups.pop()
    with refused("STATE-005", "parameters"):
        load_training(folder, optimizer, schedule, None, False)
