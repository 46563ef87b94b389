"""cosine_with_restarts with a lowest rate: the formula at every update, and the library's own curve without one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers.optimization import get_cosine_with_hard_restarts_schedule_with_warmup

from library.training.optim.lr_schedule import make_schedule
from library.training.states.state import TrainState
from library.training.states.state_files import load_training, write_state
from library.training.states.state_parts import StateParts
from tests.messages import refused
from tests.training.optim.test_lr_schedule_in_runs import NothingTrained

UPDATES, WARMUP, CYCLES = 40, 4, 3


def made(floor: float | None, *rates: float):
    optimizer = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates])
    schedule = make_schedule(optimizer, "cosine_with_restarts", updates=UPDATES, warmup=WARMUP, cycles=CYCLES, min_ratio=floor)
    assert schedule.warnings == ()
    return optimizer, schedule.schedule


def expected(step: int, floor: float) -> float:
    if step < WARMUP:
        return step / WARMUP
    along = (step - WARMUP) / (UPDATES - WARMUP)
    return floor + (1 - floor) * (0.0 if along >= 1 else (1 + math.cos(math.pi * (CYCLES * along % 1))) / 2)


@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_each_cycle_ends_at_the_floor_of_each_part(floor: float) -> None:
    optimizer, schedule = made(floor, 1e-3, 4e-4)
    for step in range(UPDATES + 3):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [1e-3 * expected(step, floor), 4e-4 * expected(step, floor)]
        )
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("floor", [None, 0.0])
def test_without_a_floor_it_is_the_librarys_curve_bit_for_bit(floor: float | None) -> None:
    optimizer, schedule = made(floor, 1e-3)
    other = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1e-3)
    theirs = get_cosine_with_hard_restarts_schedule_with_warmup(other, WARMUP, UPDATES, CYCLES)
    for _ in range(UPDATES):
        assert optimizer.param_groups[0]["lr"] == other.param_groups[0]["lr"]
        for one, its_schedule in ((optimizer, schedule), (other, theirs)):
            one.step()
            its_schedule.step()


def test_a_resumed_run_goes_on_along_it(tmp_path: Path) -> None:
    rates = []
    for stop in (None, 17):
        optimizer, schedule = made(0.2, 1e-3)
        rates.append([])
        for step in range(UPDATES):
            if step == stop:
                write_state(tmp_path / "state", StateParts(NothingTrained(), optimizer, schedule), TrainState(1, step=step), {})
                optimizer, schedule = made(0.2, 1e-3)
                load_training(tmp_path / "state", optimizer, schedule, None, new_rates=False)
            rates[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    assert rates[0] == rates[1]


def test_a_share_that_is_none_is_refused() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1e-3)
    with refused("OPT-015", "min_lr_ratio=2", "0 to 1"):
        make_schedule(optimizer, "cosine_with_restarts", updates=9, args=["min_lr_ratio=2"])
