"""--optimizer_args split_groups=True: Prodigy finds for each part what it would find for that part alone, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from library.training.optim.lr_schedule import make_schedule
from library.training.optim.optimizer import logged_rates, make_optimizer
from library.training.optim.parts.split_groups import PART, splits_groups
from library.training.states.state import TrainState
from library.training.states.state_files import load_training, write_state
from library.training.states.state_parts import StateParts
from tests.messages import message, refused
from tests.training.optim.test_lr_schedule_in_runs import NothingTrained

prodigyopt = pytest.importorskip("prodigyopt")
SPLIT = ["split_groups=True", "weight_decay=0.01"]
Parameters = dict[str, torch.nn.Parameter]


def parameters() -> Parameters:
    """Two parts, of which one has two groups; gradients of the text encoder are a thousandth of the others."""
    draws = torch.Generator().manual_seed(0)
    return {name: torch.nn.Parameter(torch.randn(6, 5, generator=draws)) for name in ("unet", "unet_plus", "textencoder")}


def groups(of: Parameters, rates: dict[str, float]) -> list[dict[str, Any]]:
    return [{"params": [one], "name": name, "lr": rates.get(name, 1.0)} for name, one in of.items()]


def train(optimizer: torch.optim.Optimizer, of: Parameters, first: int, last: int) -> None:
    for step in range(first, last):
        draws = torch.Generator().manual_seed(step)
        for name, one in of.items():
            gradient = (one.detach() + 0.1 * torch.randn(one.shape, generator=draws)) * (1e-3 if name == "textencoder" else 1.0)
            one.grad = gradient.to(one.dtype)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("rates", [{}, {"textencoder": 0.5}])
def test_each_part_is_trained_as_if_it_were_alone(rates: dict[str, float]) -> None:
    of = parameters()
    split = make_optimizer("Prodigy", groups(of, rates), 1.0, SPLIT)
    alone = parameters()
    unet = prodigyopt.Prodigy([alone["unet"], alone["unet_plus"]], lr=1.0, weight_decay=0.01)
    text = prodigyopt.Prodigy([alone["textencoder"]], lr=rates.get("textencoder", 1.0), weight_decay=0.01)
    train(split.optimizer, of, 0, 30)
    train(unet, {name: alone[name] for name in ("unet", "unet_plus")}, 0, 30)
    text_parts = {"textencoder": alone["textencoder"]}
    for step in range(30):  # the draws of all parts are one stream
        draws = torch.Generator().manual_seed(step)
        for _ in range(2):
            torch.randn(6, 5, generator=draws)
        one = text_parts["textencoder"]
        one.grad = (one.detach() + 0.1 * torch.randn(one.shape, generator=draws)) * 1e-3
        text.step()
    assert all(torch.equal(of[name], alone[name]) for name in of)
    rates_d = [group["d"] for group in split.optimizer.param_groups]
    assert rates_d[0] == rates_d[1] != rates_d[2] and rates_d[2] == text.param_groups[0]["d"]
    message(split.notes, "unet, textencoder")
    assert logged_rates(split.optimizer, list(of))["lr/d*lr/textencoder"] == pytest.approx(rates_d[2] * rates.get("textencoder", 1.0))


def test_groups_of_one_part_take_shares_of_its_rate() -> None:
    of = parameters()
    split = make_optimizer("Prodigy", groups(of, {"unet": 0.25, "textencoder": 0.5}), 1.0, ["split_groups=True"])
    same = parameters()
    whole = make_optimizer("Prodigy", groups({name: same[name] for name in ("unet", "unet_plus")}, {"unet": 0.25}), 1.0)
    train(split.optimizer, of, 0, 12)
    train(whole.optimizer, {name: same[name] for name in ("unet", "unet_plus")}, 0, 12)
    assert all(torch.equal(of[name], same[name]) for name in ("unet", "unet_plus"))
    assert not torch.equal(of["unet"], parameters()["unet"])


@pytest.mark.parametrize("args", [[], ["split_groups=False"]])
def test_without_it_one_rate_is_found_as_ever(args: list[str]) -> None:
    of, same = parameters(), parameters()
    whole = make_optimizer("Prodigy", groups(of, {}), 1.0, args)
    plain = prodigyopt.Prodigy(list(same.values()), lr=1.0)
    train(whole.optimizer, of, 0, 10)
    train(plain, same, 0, 10)
    assert all(torch.equal(of[name], same[name]) for name in of)
    assert type(whole.optimizer) is prodigyopt.Prodigy and not any(PART in group for group in whole.optimizer.param_groups)


def built(of: Parameters, args: list[str]):
    optimizer = make_optimizer("Prodigy", groups(of, {"textencoder": 0.5}), 1.0, args)
    return optimizer.optimizer, make_schedule(optimizer.optimizer, "cosine", updates=20, warmup=3).schedule


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    ends = []
    for stop in (None, 9):
        of = parameters()
        optimizer, schedule = built(of, SPLIT)
        for step in range(20):
            if step == stop:
                write_state(tmp_path / "state", StateParts(NothingTrained(), optimizer, schedule), TrainState(1, step=step), {})
                of = {name: torch.nn.Parameter(one.detach().clone()) for name, one in of.items()}
                optimizer, schedule = built(of, SPLIT)
                load_training(tmp_path / "state", optimizer, schedule, None, new_rates=False)
            train(optimizer, of, step, step + 1)
            schedule.step()
        ends.append(copy.deepcopy(of))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(("before", "after"), [(SPLIT, SPLIT[1:]), (SPLIT[1:], SPLIT)])
def test_a_state_of_the_other_way_is_refused(before: list[str], after: list[str], tmp_path: Path) -> None:
    of = parameters()
    optimizer, schedule = built(of, before)
    train(optimizer, of, 0, 2)
    write_state(tmp_path / "state", StateParts(NothingTrained(), optimizer, schedule), TrainState(1, step=2), {})
    optimizer, schedule = built(of, after)
    with refused("STATE-005", "split_groups", "--optimizer_args"):
        load_training(tmp_path / "state", optimizer, schedule, None, new_rates=False)


def test_in_16_bits_too_each_part_has_its_rate() -> None:
    of = {name: torch.nn.Parameter(one.detach().bfloat16()) for name, one in parameters().items()}
    split = make_optimizer("Prodigy", groups(of, {}), 1.0, SPLIT, rounding_seed=3)
    train(split.optimizer, of, 0, 12)
    rates_d = [group["d"] for group in split.optimizer.param_groups]
    assert splits_groups(split.optimizer) and rates_d[0] == rates_d[1] != rates_d[2]


def test_what_is_no_switch_and_other_optimizers_are_refused() -> None:
    with refused("OPT-011", "--optimizer_args split_groups=3", "True", "False"):
        make_optimizer("Prodigy", groups(parameters(), {}), 1.0, ["split_groups=3"])
    with refused("OPT-011", "--optimizer_args split_groups", "AdamW"):
        make_optimizer("AdamW", groups(parameters(), {}), 1.0, ["split_groups=True"])
