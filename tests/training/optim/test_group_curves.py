"""Every named curve over several groups, each held against its formula from the group's own rate, for three kinds of optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch

from library.errors import UserError
from library.training.optim.lr_schedule import BY_NAME, make_schedule
from library.training.optim.optimizer import make_optimizer
from library.training.optim.parts.rate_ratios import effective_rate
from tests.messages import refusals, refused

UPDATES, WARMUP, DECAY = 40, 8, 10
PLAIN, FACTORS = (1e-4, 5e-5, 0.0, 3e-4), (1.0, 0.5, 0.25, 1.0)
OPTIMIZERS: Mapping[str, tuple[list[str], tuple[float, ...]]] = {
    "AdamW": ([], PLAIN),
    "AdaFactor": (["relative_step=False"], PLAIN),
    "Prodigy": ([], FACTORS),
    "DAdaptAdam": ([], FACTORS),
}


def optimizer_of(name: str, common: float = 5e-3) -> torch.optim.Optimizer:
    """`common` is what --learning_rate says, which no group has."""
    args, rates = OPTIMIZERS[name]
    groups = [{"params": [torch.nn.Parameter(torch.ones(2, 2))], "lr": rate} for rate in rates]
    return make_optimizer(name, groups, common, args).optimizer


def curves(optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> list[list[float]]:
    """The rate of each group in each update; the weights are moved along, as the shares of one rate are taken there."""
    rates = []
    for _ in range(UPDATES):
        rates.append([effective_rate(group) for group in optimizer.param_groups])
        used = {group["lr"] for group in optimizer.param_groups if group["lr"]}
        assert len(used) <= 1 or "d" not in optimizer.param_groups[0], "this optimizer takes one rate for all"
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones(2, 2)
        optimizer.step()
        schedule.step()
    return rates


def rise(step: int) -> float:
    return step / WARMUP


def along(step: int) -> float:
    return (step - WARMUP) / (UPDATES - WARMUP)


def half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


Formula = Callable[[int, float, float], float]  # update, own rate, absolute floor -> the rate after the warm-up
FORMULAS: Mapping[str, Formula] = {
    "constant": lambda step, rate, floor: rate,
    "constant_with_warmup": lambda step, rate, floor: rate,
    "linear": lambda step, rate, floor: rate * (1 - along(step)),
    "cosine": lambda step, rate, floor: rate * half_cosine(along(step)),
    "cosine_with_restarts": lambda step, rate, floor: rate * half_cosine(3 * along(step) % 1),
    "polynomial": lambda step, rate, floor: floor + (rate - floor) * (1 - along(step)) ** 2,
    "inverse_sqrt": lambda step, rate, floor: rate * math.sqrt(WARMUP / step),
    "cosine_with_min_lr": lambda step, rate, floor: floor + (rate - floor) * half_cosine(along(step)),
    "warmup_stable_decay": lambda step, rate, floor: (
        rate if step < UPDATES - DECAY else rate * (0.2 + 0.8 * half_cosine((step - UPDATES + DECAY) / DECAY))
    ),
    "piecewise_constant": lambda step, rate, floor: rate * (1.0 if step < 10 else 0.1),
}
FLOOR_ARGUMENT = {"polynomial": "lr_end", "cosine_with_min_lr": "min_lr"}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("name", BY_NAME)
def test_each_group_follows_the_formula_from_its_own_rate(name: str, kind: str) -> None:
    row, rates = BY_NAME[name], OPTIMIZERS[kind][1]
    floor = min(rate for rate in rates if rate) / 5 if name in FLOOR_ARGUMENT else 0.0
    args = {name: [f"{FLOOR_ARGUMENT[name]}={floor}"]} if floor else {"piecewise_constant": ["step_rules=1:10,0.1"]}
    optimizer = optimizer_of(kind)
    warmup, decay = WARMUP if row.warmup else 0, DECAY if row.decay else 0
    share = 0.2 if name == "warmup_stable_decay" else None
    built = make_schedule(
        optimizer, name, updates=UPDATES, warmup=warmup, cycles=3, power=2.0, decay=decay, min_ratio=share, args=args.get(name)
    )
    lowest = 0.2 if share else 0.0  # from which warmup_stable_decay rises, too
    for step, current in enumerate(curves(optimizer, built.schedule)):
        warming = row.warmup and step < WARMUP
        expected = [
            rate * (lowest + (1 - lowest) * rise(step)) if warming else FORMULAS[name](step, rate, floor) if rate else 0.0 for rate in rates
        ]
        assert current == pytest.approx(expected, rel=1e-9, abs=1e-15), step


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("common", [0.0, 1e-9, 7.0])
def test_the_common_rate_moves_no_floor_of_groups_with_rates_of_their_own(kind: str, common: float) -> None:
    optimizers = [optimizer_of(kind, common), optimizer_of(kind)]
    schedules = [make_schedule(one, "polynomial", updates=UPDATES, warmup=3).schedule for one in optimizers]
    assert curves(optimizers[0], schedules[0]) == curves(optimizers[1], schedules[1])


@pytest.mark.parametrize("common", [0.0, 1.0])
@pytest.mark.parametrize("name", ["AdamW", "Lion", "Prodigy", "DAdaptAdam", "DAdaptAdan", "DAdaptLion", "AdaFactor", "SGDNesterov"])
def test_a_common_rate_of_0_is_no_fault_where_each_group_has_its_own(name: str, common: float) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2, 2))], "lr": 1.0}]
    optimizer = make_optimizer(name, groups, common).optimizer
    built = make_schedule(optimizer, "cosine_with_min_lr", updates=9, forced="adafactor" if name == "AdaFactor" else None)
    assert built.warnings == ()


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"name": "cosine_with_min_lr", "args": ["min_lr=6e-5"]}, ("min_lr=6e-05", "te is 5e-05")),
        ({"name": "polynomial", "args": ["lr_end=6e-5"]}, ("lr_end=6e-05", "te is 5e-05")),
        ({"name": "cosine_with_min_lr", "args": ["min_lr=-1e-5"]}, ("min_lr=-1e-05", "below 0")),
        ({"name": "polynomial", "args": ["lr_end=-1"]}, ("lr_end=-1", "below 0")),
        ({"name": "cosine_with_min_lr", "args": ["min_lr_rate=1.5"]}, ("min_lr_rate=1.5", "0 to 1")),
        ({"name": "warmup_stable_decay", "args": ["min_lr_ratio=-0.1"]}, ("min_lr_ratio=-0.1", "0 to 1")),
        ({"scheduler_type": "CosineAnnealingLR", "args": ["T_max=9", "eta_min=6e-5"]}, ("eta_min=6e-05", "te is 5e-05")),
        ({"scheduler_type": "CosineAnnealingWarmRestarts", "args": ["T_0=9", "eta_min=1"]}, ("eta_min=1", "te is 5e-05")),
    ],
)
def test_a_floor_above_the_rate_of_a_part_is_refused(asked: dict[str, object], names: tuple[str, ...]) -> None:
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate, "name": name} for name, rate in (("unet", 1e-4), ("te", 5e-5))]
    optimizer = make_optimizer("AdamW", groups, 5e-3).optimizer
    with pytest.raises(UserError) as error:
        make_schedule(optimizer, **{"name": "cosine", "updates": UPDATES, **asked})
    refusals(error.value, ("OPT-015", *names))


def test_the_floor_that_polynomial_has_of_itself_is_refused_by_name_above_a_rate() -> None:
    optimizer = make_optimizer("AdamW", [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": 1e-8, "name": "unet"}], 1.0).optimizer
    with refused("OPT-015", "lr_end=1e-07", "default", "unet is 1e-08"):
        make_schedule(optimizer, "polynomial", updates=UPDATES)


def test_one_rate_for_all_cannot_have_the_floor_of_a_class() -> None:
    with refused("OPT-015", "eta_min=0.1", "--lr_scheduler cosine_with_min_lr"):
        make_schedule(optimizer_of("Prodigy"), "", updates=9, scheduler_type="CosineAnnealingLR", args=["T_max=9", "eta_min=0.1"])
    optimizer = optimizer_of("Prodigy")
    built = make_schedule(optimizer, "", updates=UPDATES, scheduler_type="CosineAnnealingLR", args=[f"T_max={UPDATES}"])
    for step, rates in enumerate(curves(optimizer, built.schedule)):
        assert rates == pytest.approx([rate * half_cosine(step / UPDATES) for rate in FACTORS])
