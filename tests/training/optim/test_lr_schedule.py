"""Each curve at every one of 100 updates against its formula, and what is refused or reported."""

import io
import math

import pytest
import torch
from transformers.optimization import Adafactor, AdafactorSchedule

from library.errors import UserError
from library.training.optim.lr_schedule import BY_NAME, make_schedule
from library.training.optim.optimizer import logged_rates, make_optimizer
from tests.messages import message, refusals, refused

UPDATES, WARMUP, RATE = 100, 12, 2e-3


def an_optimizer(name: str = "AdamW", args: list[str] | None = None, **rates: float) -> torch.optim.Optimizer:
    parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))]
    groups = [{"params": [parameters[0]], "lr": rates.get("first", RATE)}, {"params": [parameters[1]], "lr": rates.get("second", RATE / 4)}]
    return make_optimizer(name, groups, RATE, args).optimizer


def curve(optimizer: torch.optim.Optimizer, schedule, updates: int = UPDATES, same_shape: bool = True) -> list[float]:
    """The first group's rate in each update; the loop steps the schedule once after every update."""
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        if same_shape:
            assert optimizer.param_groups[1]["lr"] == pytest.approx(rates[-1] / 4)
        optimizer.step()
        schedule.step()
    return rates


def rise(step: int) -> float | None:
    return step / WARMUP if step < WARMUP else None


def along(step: int) -> float:
    return (step - WARMUP) / (UPDATES - WARMUP)


FORMULAS = {
    "constant": lambda step: 1.0,
    "constant_with_warmup": lambda step: 1.0,
    "linear": lambda step: 1 - along(step),
    "cosine": lambda step: (1 + math.cos(math.pi * along(step))) / 2,
    "cosine_with_restarts": lambda step: (1 + math.cos(math.pi * (3 * along(step) % 1))) / 2,
    # from the rate to 10⁻⁷, not to 0
    "polynomial": lambda step: ((RATE - 1e-7) * (1 - along(step)) ** 2 + 1e-7) / RATE,
    "inverse_sqrt": lambda step: math.sqrt(WARMUP / step),
    "cosine_with_min_lr": lambda step: 0.1 + 0.9 * (1 + math.cos(math.pi * along(step))) / 2,
    "warmup_stable_decay": lambda step: 1.0 if step < 90 else (1 + math.cos(math.pi * (step - 90) / 10)) / 2,
    "piecewise_constant": lambda step: 1.0 if step < 10 else 0.1 if step < 20 else 0.01,
}


@pytest.mark.parametrize("name", BY_NAME)
def test_each_curve_follows_its_formula_at_every_update(name):
    optimizer = an_optimizer()
    row = BY_NAME[name]
    args = ["step_rules=1:10,0.1:20,0.01"] if name == "piecewise_constant" else None
    built = make_schedule(optimizer, name.upper(), updates=UPDATES, warmup=WARMUP if row.warmup else 0, cycles=3, power=2.0, args=args)
    assert (built.name, built.warnings) == (name, ())
    warming = [rise(step) if row.warmup else None for step in range(UPDATES)]
    expected = [RATE * (FORMULAS[name](step) if part is None else part) for step, part in enumerate(warming)]
    assert curve(optimizer, built.schedule, same_shape=name != "polynomial") == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("name", [*BY_NAME, "CosineAnnealingLR"])
def test_a_restored_schedule_goes_on_exactly(name):
    def fresh():
        optimizer = an_optimizer()
        args = {"piecewise_constant": ["step_rules=1:10,0.1:20,0.01"], "CosineAnnealingLR": ["T_max=100"]}.get(name)
        custom = name if name not in BY_NAME else ""
        return optimizer, make_schedule(optimizer, "cosine", updates=UPDATES, args=args, scheduler_type=custom).schedule if custom else (
            make_schedule(optimizer, name, updates=UPDATES, warmup=5 if BY_NAME[name].warmup else 0, args=args).schedule
        )

    optimizer, schedule = fresh()
    curve(optimizer, schedule, 37, same_shape=False)
    file = io.BytesIO()
    torch.save([optimizer.state_dict(), schedule.state_dict()], file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    again, restored = fresh()
    again.load_state_dict(saved[0])
    restored.load_state_dict(saved[1])
    assert curve(again, restored, 63, same_shape=False) == curve(optimizer, schedule, 63, same_shape=False)


def test_warm_up_with_constant_is_told_and_not_used():
    optimizer = an_optimizer()
    built = make_schedule(optimizer, "constant", updates=UPDATES, warmup=10)
    message(built.warnings[:1], "constant", "warm-up", "constant_with_warmup")
    assert set(curve(optimizer, built.schedule)) == {RATE}


def test_a_warm_up_as_long_as_the_run_is_told():
    assert "never reached" in make_schedule(an_optimizer(), "linear", updates=10, warmup=10).warnings[0]


def test_what_curves_need_is_added_and_told():
    message(make_schedule(an_optimizer(), "warmup_stable_decay", updates=100).notes[:1], "last 10 updates")
    assert make_schedule(an_optimizer(), "warmup_stable_decay", updates=100, decay=30).notes == ()
    assert make_schedule(an_optimizer(), "warmup_stable_decay", updates=100, args=["num_decay_steps=30"]).notes == ()
    assert "ends at a tenth" in make_schedule(an_optimizer(), "cosine_with_min_lr", updates=100).notes[0]
    assert make_schedule(an_optimizer(), "cosine_with_min_lr", updates=100, min_ratio=0.2).notes == ()
    assert make_schedule(an_optimizer(), "cosine_with_min_lr", updates=100, args=["min_lr=1e-5"]).notes == ()


def test_arguments_reach_a_named_curve():
    optimizer = an_optimizer()
    built = make_schedule(optimizer, "polynomial", updates=UPDATES, args=["lr_end=4e-4"])
    assert curve(optimizer, built.schedule, 101, same_shape=False)[-1] == pytest.approx(4e-4)


def test_a_class_of_ones_own_takes_the_place_of_the_named_curve():
    optimizer = an_optimizer()
    built = make_schedule(optimizer, "cosine", updates=UPDATES, warmup=3, scheduler_type="steplr", args=["step_size=10", "gamma=0.5"])
    assert curve(optimizer, built.schedule) == pytest.approx([RATE * 0.5 ** (step // 10) for step in range(UPDATES)])
    assert "replaces --lr_scheduler" in built.notes[0]
    message(built.warnings[:1], "--lr_warmup_steps 3")
    optimizer = an_optimizer()
    name = "torch.optim.lr_scheduler.ExponentialLR"
    dotted = make_schedule(optimizer, "cosine", updates=UPDATES, scheduler_type=name, args=["gamma=0.9"])
    assert curve(optimizer, dotted.schedule)[2] == pytest.approx(RATE * 0.81)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"name": "cosin"}, ("OPT-014", "--lr_scheduler cosin", "cosine?")),
        ({"name": "adafactor"}, ("OPT-015", "adafactor", "--optimizer_type AdaFactor", "relative_step=True")),
        ({"name": "constant", "args": ["power=2"]}, ("OPT-011", "--lr_scheduler_args power", "constant", "nothing")),
        ({"name": "polynomial", "args": ["power=2"]}, ("OPT-011", "--lr_scheduler_args power", "--lr_scheduler_power")),
        ({"name": "polynomial", "args": ["lr_end=1"]}, ("OPT-015", "--lr_scheduler polynomial", "--lr_scheduler_args lr_end=1")),
        ({"name": "cosine", "args": ["num_cycle=1"]}, ("OPT-011", "num_cycle", "num_cycles?")),
        ({"name": "piecewise_constant"}, ("OPT-011", "piecewise_constant", "step_rules")),
        ({"name": "piecewise_constant", "args": ["step_rules=word"]}, ("OPT-011", "step_rules=word")),
        ({"name": "warmup_stable_decay", "warmup": 95}, ("OPT-015", "95 of warm-up", "10 of decay", "100 updates")),
        ({"name": "cosine", "scheduler_type": "StepLRR"}, ("OPT-014", "StepLRR", "StepLR?")),
        ({"name": "cosine", "scheduler_type": "StepLR"}, ("OPT-011", "StepLR", "--lr_scheduler_args step_size=")),
        ({"name": "cosine", "scheduler_type": "ReduceLROnPlateau"}, ("OPT-014", "ReduceLROnPlateau", "metrics")),
        ({"name": "cosine", "scheduler_type": "torch.nn.Linear"}, ("OPT-014", "torch.nn.Linear")),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(asked, names):
    with pytest.raises(UserError) as error:
        make_schedule(an_optimizer(), updates=UPDATES, **asked)
    refusals(error.value, names)


def test_dadapt_sgd_refuses_a_warm_up_that_would_divide_by_zero():
    with refused("OPT-015", "--lr_warmup_steps 5", "DAdaptSGD"):
        make_schedule(an_optimizer("DAdaptSGD", first=1.0, second=1.0), "linear", updates=UPDATES, warmup=5)


@pytest.mark.parametrize("args", [[], ["warmup_init=True"], ["scale_parameter=False"]])
def test_adafactor_shows_the_rates_that_transformers_finds(args):
    optimizer = an_optimizer("AdaFactor", args)
    built = make_schedule(optimizer, "cosine", updates=UPDATES, forced="adafactor")
    assert built.name == "adafactor"
    assert "cosine is ignored" in built.notes[0]
    assert logged_rates(optimizer, ["unet", "te"]) == {"lr/unet": 0.0, "lr/te": 0.0}
    theirs = an_optimizer("AdaFactor", args)
    reference = AdafactorSchedule(theirs)
    assert isinstance(theirs, Adafactor)
    for step in range(12):
        for one in (optimizer, theirs):
            for group in one.param_groups:
                group["params"][0].grad = torch.full_like(group["params"][0], 0.1 * (step + 1))
            one.step()
        built.schedule.step()
        expected = [float(rate) for rate in reference.get_lr()]
        assert list(logged_rates(optimizer, ["unet", "te"]).values()) == pytest.approx(expected)
        for one, two in zip(optimizer.param_groups, theirs.param_groups, strict=True):
            assert torch.equal(one["params"][0], two["params"][0])
    # a part without gradients, as a text encoder that has stopped, does not disturb it
    optimizer.param_groups[1]["params"][0].grad = None
    optimizer.step()
    built.schedule.step()


def test_adafactor_as_the_schedule_is_not_remarked_on():
    assert make_schedule(an_optimizer("AdaFactor"), "adafactor", updates=5, forced="adafactor").notes == ()


def test_shares_of_a_found_rate_keep_their_proportion_along_the_curve():
    optimizer = an_optimizer("Prodigy", first=1.0, second=0.5)
    schedule = make_schedule(optimizer, "linear", updates=10).schedule
    for _ in range(5):
        optimizer.step()
        schedule.step()
    rates = logged_rates(optimizer, ["unet", "te"])
    assert (rates["lr/unet"], rates["lr/te"]) == (pytest.approx(0.5), pytest.approx(0.25))
