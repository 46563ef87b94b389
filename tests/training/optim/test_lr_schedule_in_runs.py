"""Schedules as runs step them: the library's own figures at every update across a resume, shares of a run, accumulation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import train_network
from library.options.groups.scripts import TrainNetwork
from library.options.reading.parse import parse
from library.training.events import RunEvents
from library.training.optim.lr_schedule import BY_NAME, make_schedule
from library.training.planning.plan import steps_of
from library.training.states.state import TrainState
from library.training.states.state_files import load_training, write_state
from library.training.states.state_parts import StateParts
from tests.messages import refused
from tests.scripts.starting import dataset, start

UPDATES, RATE = 100, 2e-3
FLOORED = ("cosine_with_min_lr", "warmup_stable_decay")  # those of the libraries themselves


class NothingTrained:
    """A method of which a state has no weights."""

    def modules(self) -> list[torch.nn.Module]:
        return []


def made(name: str):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter], lr=RATE)
    args = ["step_rules=1:30,0.1:60,0.01"] if name == "piecewise_constant" else None
    figures = {"warmup": 12 if BY_NAME[name].warmup else 0, "cycles": 3, "power": 2.0, "min_ratio": 0.25 if name in FLOORED else None}
    figures |= {"decay": 20 if BY_NAME[name].decay else 0, "timescale": 40 if BY_NAME[name].timescale else None}
    schedule = make_schedule(optimizer, name, updates=UPDATES, args=args, **figures)
    assert schedule.warnings == ()
    return optimizer, schedule.schedule


def of_the_library(name: str):
    """The schedule as its own library builds it from the same figures."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=RATE)
    if name == "piecewise_constant":
        from diffusers.optimization import get_piecewise_constant_schedule

        return optimizer, get_piecewise_constant_schedule(optimizer, "1:30,0.1:60,0.01")
    more = {"cosine_with_restarts": {"num_cycles": 3}, "polynomial": {"power": 2.0}, "cosine_with_min_lr": {"min_lr_rate": 0.25}}
    more |= {"warmup_stable_decay": {"num_decay_steps": 20, "min_lr_ratio": 0.25}, "inverse_sqrt": {"timescale": 40}}
    return optimizer, transformers.get_scheduler(
        name, optimizer, num_warmup_steps=12, num_training_steps=UPDATES, scheduler_specific_kwargs=more.get(name, {})
    )


@pytest.mark.parametrize("name", BY_NAME)
def test_every_rate_of_a_run_resumed_twice_is_the_librarys(name: str, tmp_path: Path) -> None:
    reference, theirs = of_the_library(name)
    optimizer, schedule = made(name)
    for step in range(UPDATES):
        if step in (7, 53):
            write_state(tmp_path / str(step), StateParts(NothingTrained(), optimizer, schedule), TrainState(1, step=step), {})
            optimizer, schedule = made(name)
            load_training(tmp_path / str(step), optimizer, schedule, None, new_rates=False)
        assert optimizer.param_groups[0]["lr"] == reference.param_groups[0]["lr"], step
        for one, its_schedule in ((optimizer, schedule), (reference, theirs)):
            one.step()
            its_schedule.step()


@pytest.mark.parametrize(
    ("figure", "updates", "steps"), [(0, 100, 0), (7, 100, 7), (0.05, 100, 5), (0.29, 100, 29), (0.1, 15, 1), (1, 9, 1)]
)
def test_a_figure_below_one_is_a_share_of_the_updates(figure, updates, steps) -> None:
    assert steps_of(figure, updates) == steps


def test_warm_up_is_read_as_a_count_or_a_fraction_and_nothing_between() -> None:
    def read(text: str):
        return parse(TrainNetwork, ["--lr_warmup_steps", text]).optimizer.lr_warmup_steps

    assert (read("0.1"), read("10"), read("1")) == (0.1, 10, 1)
    for text in ("1.5", "-0.1", "many"):
        with refused("OPT-006", "--lr_warmup_steps:", "below 1", 1000000000, f"'{text}'" if text != "-0.1" else "-0.1"):
            read(text)


def test_flags_that_a_curve_does_not_use_are_told() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=RATE)
    warned = make_schedule(optimizer, "cosine", updates=9, decay=3, min_ratio=0.1, timescale=4).warnings
    assert [line.partition(":")[0] for line in warned] == [
        "--lr_decay_steps 3",
        "--lr_scheduler_timescale 4",
        "--lr_scheduler_min_lr_ratio 0.1",
    ]
    with refused("OPT-011", "num_decay_steps", "--lr_decay_steps"):
        make_schedule(optimizer, "warmup_stable_decay", updates=9, decay=3, args=["num_decay_steps=2"])


def test_a_run_with_accumulation_takes_one_step_of_the_curve_an_update(tiny_v1: Path, photos: Path, tmp_path: Path, monkeypatch) -> None:
    """9 images in batches of 2 make 5 batches, 3 updates an epoch; a warm-up over half of 6 updates takes 3."""
    rates = []
    monkeypatch.setattr(RunEvents, "on_update", lambda events, report: rates.append(report.extra["lr/unet"]))
    common = {"pretrained_model_name_or_path": tiny_v1, "dataset_config": dataset(tmp_path / "data.toml", photos, resolution=32)}
    common |= {"output_dir": tmp_path / "out", "network_module": "networks.lora", "network_dim": 1, "cache_latents": True}
    common |= {"max_train_epochs": 2, "gradient_accumulation_steps": 2, "learning_rate": 3e-3, "lr_scheduler": "linear"}
    assert start(train_network.main, **common, lr_warmup_steps=0.5) == 0
    assert rates == pytest.approx([0, 1e-3, 2e-3, 3e-3, 2e-3, 1e-3])
