"""States that accelerate wrote: everything in them that can be identified continues, the rest is reported."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import train_network
from library.training.states.accelerate_state import accelerate_lines, is_accelerate_state, read_accelerate_state
from library.training.states.accelerate_state_files import load_accelerate_training, load_accelerate_weights
from tests.messages import message, refused
from tests.scripts.starting import dataset, start


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q, self.to_k = nn.Linear(4, 4), nn.Linear(width, 4)


class Theirs(nn.Module):
    """A transformer block with its parts in the order of sd-scripts' U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.ff, self.attn2 = Attention(4), nn.Linear(4, 32), Attention(6)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(4), nn.LayerNorm(4), nn.LayerNorm(4)


class Ours(nn.Module):
    """The same as diffusers has it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(4), Attention(4)
        self.norm2, self.attn2 = nn.LayerNorm(4), Attention(6)
        self.norm3, self.ff = nn.LayerNorm(4), nn.Linear(4, 32)


class Unet(nn.Module):
    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.conv_in = nn.Linear(3, 4)
        self.transformer_blocks = nn.ModuleList([block()])
        self.conv_out = nn.Linear(4, 3)


class TextEncoder(nn.Module):
    """The level that transformers had, and a vocabulary of 10 words of which the last 2 are new."""

    def __init__(self) -> None:
        super().__init__()
        self.text_model = nn.Module()
        self.text_model.embeddings = nn.Module()
        self.text_model.embeddings.token_embedding = nn.Embedding(10, 5)


class Vectors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(1, 2, 5))


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch):
    yield Accelerator()
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def curve(step: int) -> float:
    return 1 / (1 + step)


def saved(folder: Path, accelerator: Accelerator, *modules: nn.Module, position: int | None = 4, steps: int = 3):
    """Their optimizer after some updates, and the folder that accelerate writes from it."""
    optimizer = torch.optim.AdamW([{"params": list(module.parameters()), "lr": 0.1} for module in modules])
    schedule = LambdaLR(optimizer, curve)
    prepared = accelerator.prepare(*modules, optimizer, schedule)
    for step in range(steps):
        sum(
            (parameter * (number + step)).square().sum() for number, parameter in enumerate(p for m in modules for p in m.parameters())
        ).backward()
        prepared[-2].step()
        prepared[-1].step()
        prepared[-2].zero_grad()
    accelerator.save_state(str(folder))
    if position is not None:
        (folder / "train_state.json").write_text(json.dumps({"current_epoch": 1, "current_step": position}), encoding="utf-8")
    return optimizer


def method(*modules: nn.Module) -> SimpleNamespace:
    return SimpleNamespace(modules=lambda: list(modules))


def resumed(folder: Path, *modules: nn.Module, rate: float = 0.5, new_rates: bool = False):
    optimizer = torch.optim.AdamW([{"params": list(module.parameters()), "lr": rate} for module in modules], fused=True)
    schedule = LambdaLR(optimizer, curve)
    old = read_accelerate_state(folder)
    load_accelerate_weights(old, method(*modules))
    load_accelerate_training(old, method(*modules), optimizer, schedule, None, new_rates)
    return optimizer, schedule


def test_a_whole_model_goes_on_with_what_its_optimizer_remembers_of_each_weight(tmp_path: Path, accelerator) -> None:
    theirs, more = Unet(Theirs), nn.Linear(5, 2)
    before = saved(tmp_path / "old", accelerator, theirs, more)
    ours, extra = Unet(Ours), nn.Linear(5, 2)
    optimizer, schedule = resumed(tmp_path / "old", ours, extra)
    for mine, other in ((ours, theirs), (extra, more)):
        named = dict(other.named_parameters())
        for name, parameter in mine.named_parameters():
            assert torch.equal(parameter, named[name]), name
            for key in ("exp_avg", "exp_avg_sq", "step"):
                assert torch.equal(optimizer.state[parameter][key], before.state[named[name]][key]), name
    assert schedule.last_epoch == 3 and [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 / 4] * 2)
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 5) and optimizer.param_groups[0]["fused"]


def test_new_rates_follow_the_curve_from_its_place(tmp_path: Path, accelerator) -> None:
    saved(tmp_path / "old", accelerator, Unet(Theirs))
    optimizer, _ = resumed(tmp_path / "old", Unet(Ours), new_rates=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 / 4)


def test_a_new_word_is_the_last_rows_of_the_vocabulary(tmp_path: Path, accelerator) -> None:
    theirs = TextEncoder()
    before = saved(tmp_path / "old", accelerator, theirs)
    ours = Vectors()
    optimizer, _ = resumed(tmp_path / "old", ours)
    table = theirs.text_model.embeddings.token_embedding.weight
    assert torch.equal(ours.vectors[0], table[-2:])
    assert torch.equal(optimizer.state[ours.vectors]["exp_avg"][0], before.state[table]["exp_avg"][-2:])


@pytest.mark.parametrize(
    ("position", "schedule", "step", "names"),
    [
        (4, True, 3, ("3 updates", "scheduler.bin")),  # saved after an epoch, theirs counts one too many
        (9, True, 3, ("3 updates", "scheduler.bin", "train_state.json", 9, "--initial_step 9")),
        (9, False, 9, ("9 updates", "train_state.json")),
        (None, True, 3, ("3 updates", "scheduler.bin")),
        (None, False, None, ("neither scheduler.bin nor train_state.json",)),
    ],
)
def test_how_far_a_state_knows_where_it_stood(tmp_path: Path, accelerator, position, schedule, step, names) -> None:
    saved(tmp_path / "old", accelerator, Unet(Theirs), position=position)
    if not schedule:
        (tmp_path / "old" / "scheduler.bin").unlink()
    assert is_accelerate_state(tmp_path / "old")
    old = read_accelerate_state(tmp_path / "old")
    assert old.step == step
    message(accelerate_lines(old)[:1], *names)
    assert any("scheduler.bin is missing" in line for line in accelerate_lines(old)) != schedule


def test_two_processes_move_the_schedule_twice_an_update(tmp_path: Path, accelerator) -> None:
    saved(tmp_path / "old", accelerator, Unet(Theirs), position=None, steps=6)
    (tmp_path / "old" / "random_states_1.pkl").touch()
    assert read_accelerate_state(tmp_path / "old").step == 3
    _, schedule = resumed(tmp_path / "old", Unet(Ours))
    assert schedule.last_epoch == 3


def test_what_does_not_fit_is_told(tmp_path: Path, accelerator, heard) -> None:
    saved(tmp_path / "old", accelerator, Unet(Theirs))
    old = read_accelerate_state(tmp_path / "old")
    with refused("STATE-005", "--resume", "1 tensor is missing", "vectors"):
        load_accelerate_weights(old, method(Vectors()))
    with refused("STATE-005", "1 model", 2):
        load_accelerate_weights(old, method(Unet(Ours), nn.Linear(5, 2)))
    sgd = torch.optim.SGD(Unet(Ours).parameters(), lr=0.1)
    with refused("STATE-004", "optimizer.bin", "SGD", "amsgrad, betas"):
        load_accelerate_training(old, method(Unet(Ours)), sgd, LambdaLR(sgd, curve), None, False)
    (tmp_path / "old" / "optimizer.bin").write_bytes(b"not a pickle")
    resumed(tmp_path / "old", Unet(Ours))
    message(heard.lines, "optimizer.bin", "damaged", "reset")


def test_nothing_in_a_state_is_executed(tmp_path: Path, accelerator, heard) -> None:
    saved(tmp_path / "old", accelerator, Unet(Theirs), position=None)
    mark = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (mark,))

    for name in ("optimizer.bin", "scheduler.bin"):
        torch.save({"last_epoch": 5, "state": Evil()}, tmp_path / "old" / name)
    for name in ("random_states_0.pkl",):
        torch.save(Evil(), tmp_path / "old" / name)
    resumed(tmp_path / "old", Unet(Ours))
    assert not mark.exists() and "scheduler.bin contains code" in heard.text


def test_a_lora_goes_on_from_such_a_state(tiny_v1: Path, photos: Path, tmp_path: Path, capsys) -> None:
    """The folder is made of a state of ours, with the names and contents of accelerate's."""
    from library.training.states.state_files import TRAINING_FILE

    common: dict[str, object] = {
        "pretrained_model_name_or_path": tiny_v1,
        "dataset_config": dataset(tmp_path / "data.toml", photos), "network_module": "networks.lora",
        "network_dim": 2, "learning_rate": 1e-3, "cache_latents": True, "seed": 7, "save_precision": "float", "output_name": "cat",
        "save_state": True,
    }  # fmt: skip
    assert start(train_network.main, **common, output_dir=tmp_path / "first", max_train_steps=7) == 0
    state, old = tmp_path / "first" / "cat-state", tmp_path / "old"
    old.mkdir()
    (state / "trained-0.safetensors").rename(old / "model.safetensors")
    training = torch.load(state / TRAINING_FILE, weights_only=True)
    torch.save(training["optimizer"], old / "optimizer.bin")
    torch.save(training["schedule"], old / "scheduler.bin")
    (old / "random_states_0.pkl").touch()
    capsys.readouterr()
    assert start(train_network.main, **common, output_dir=tmp_path / "second", max_train_steps=9, resume=old) == 0
    output = capsys.readouterr().err
    message(output, "7 updates", "scheduler.bin")
    message(output, "7 done + 2 to do")
    end = torch.load(tmp_path / "second" / "cat-state" / TRAINING_FILE, weights_only=True)
    assert {float(memory["step"]) for memory in end["optimizer"]["state"].values()} == {9.0}
    assert end["schedule"]["last_epoch"] == 9
