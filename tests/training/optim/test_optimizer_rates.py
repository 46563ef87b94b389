"""Rates of the optimizers: given, found, shared out among the parts of a model, and logged."""

import copy

import pytest
import torch

from library.training.optim.optimizer import logged_rates, make_optimizer
from tests.messages import message, refusal
from tests.training.optim.toys import FINDS_ITS_RATE, Toy, problems_of, restored, take_steps


def test_adamw_is_fused_and_equals_torchs_own_within_rounding():
    ours, theirs = Toy(), Toy()
    built = make_optimizer("AdamW", ours.groups(second=5e-4), 1e-3)
    assert built.optimizer.param_groups[0]["fused"]
    reference = torch.optim.AdamW([{"params": [theirs.first], "lr": 1e-3}, {"params": [theirs.second], "lr": 5e-4}], foreach=False)
    assert take_steps(ours, built.optimizer, range(20)) == pytest.approx(take_steps(theirs, reference, range(20)), rel=1e-5)
    torch.testing.assert_close(ours.first, theirs.first, rtol=1e-4, atol=1e-6)
    assert not make_optimizer("AdamW", Toy().groups(), 1e-3, fused=False).optimizer.param_groups[0].get("fused")
    assert make_optimizer("AdamW", Toy().groups(), 1e-3, ["foreach=True"]).optimizer.param_groups[0]["foreach"]


def test_rates_are_logged_by_group():
    built = make_optimizer("AdamW", Toy().groups(first=1e-3, second=5e-5), 7.0)
    assert logged_rates(built.optimizer, ["unet", "text_encoder"]) == {"lr/unet": 1e-3, "lr/text_encoder": 5e-5}
    assert built.warnings == ()


@pytest.mark.parametrize("name", FINDS_ITS_RATE)
def test_a_rate_other_than_one_is_warned_of_where_it_is_a_factor(name):
    assert make_optimizer(name, Toy().groups(), 1.0).warnings == ()
    (warning,) = make_optimizer(name, Toy().groups(), 1e-4).warnings
    assert "1.0 is expected, not 0.0001" in warning


def test_found_rate_times_factor_is_logged():
    toy = Toy()
    built = make_optimizer("Prodigy", toy.groups(), 1.0, ["d_coef=2"])
    take_steps(toy, built.optimizer, range(20))
    rates = logged_rates(built.optimizer, ["unet", "te"])
    assert rates["lr/unet"] == 1.0
    assert rates["lr/d*lr/unet"] == rates["lr/d*lr/te"] == built.optimizer.param_groups[0]["d"] > 1e-6


@pytest.mark.parametrize("name", [name for name in FINDS_ITS_RATE if name not in ("DAdaptAdaGrad", "DAdaptSGD")])
def test_a_part_with_half_the_factor_moves_half_as_far(name):
    """The guide: --text_encoder_lr=0.5 --unet_lr=1.0. In the first update the rate found does not depend on the shares yet."""
    whole, half = Toy().double(), Toy().double()
    start = [whole.first.detach().clone(), whole.second.detach().clone()]
    built = make_optimizer(name, half.groups(first=1.0, second=0.5), 1.0)
    message(built.notes[:1], "0.5, 1")
    take_steps(whole, make_optimizer(name, whole.groups(), 1.0).optimizer, range(1))
    take_steps(half, built.optimizer, range(1))
    torch.testing.assert_close(half.first, whole.first, rtol=0, atol=0)
    torch.testing.assert_close(half.second - start[1], (whole.second - start[1]) / 2, rtol=1e-6, atol=0)
    take_steps(half, built.optimizer, range(1, 30))
    rates = logged_rates(built.optimizer, ["unet", "te"])
    assert (rates["lr/unet"], rates["lr/te"]) == (1.0, 0.5)
    assert rates["lr/d*lr/te"] == rates["lr/d*lr/unet"] / 2


def test_shares_survive_saving_and_restoring():
    toy, again = Toy(), Toy()
    built = make_optimizer("Prodigy", toy.groups(first=1.0, second=0.5), 1.0)
    take_steps(toy, built.optimizer, range(5))
    again.load_state_dict(copy.deepcopy(toy.state_dict()))
    other = make_optimizer("Prodigy", again.groups(first=1.0, second=0.5), 1.0)
    other.optimizer.load_state_dict(restored(built.optimizer.state_dict()))
    assert take_steps(toy, built.optimizer, range(5, 9)) == take_steps(again, other.optimizer, range(5, 9))


def test_a_frozen_part_stays_frozen():
    toy = Toy()
    before = toy.second.detach().clone()
    built = make_optimizer("Prodigy", toy.groups(first=1.0, second=0.0), 1.0)
    take_steps(toy, built.optimizer, range(40))
    assert built.warnings == ()
    assert logged_rates(built.optimizer, ["unet", "te"])["lr/te"] == 0.0
    assert not torch.equal(toy.first, Toy().first)
    # the library moves frozen groups by their momentum, which stays 0
    torch.testing.assert_close(toy.second, before)
    alone = Toy()  # and the rate is the same without it
    take_steps(alone, make_optimizer("Prodigy", alone.groups(first=1.0, second=0.0)[:1], 1.0).optimizer, range(40))
    torch.testing.assert_close(toy.first, alone.first, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["DAdaptAdaGrad", "DAdaptSGD"])
def test_optimizers_of_one_rate_refuse_two(name):
    refusal(problems_of(name, [], first=1.0, second=0.5), "OPT-016", name, "0.5, 1")


def test_adafactor_finds_its_own_rate_unless_told_otherwise():
    built = make_optimizer("adafactor", Toy().groups(first=1e-3), 1e-4)
    assert (built.kind, built.schedule) == ("relative", "adafactor")
    assert [group["lr"] for group in built.optimizer.param_groups] == [None, None]
    assert "relative_step=True is added" in built.notes[0]
    message(built.notes[1:2], "rates", "ignored")
    built = make_optimizer("AdaFactor", Toy().groups(first=1e-3), 1e-4, ["relative_step=False"])
    assert (built.kind, built.schedule) == ("plain", None)
    assert [group["lr"] for group in built.optimizer.param_groups] == [1e-3, 1e-4]
    message(built.notes[:1], "--lr_scheduler constant_with_warmup", "--max_grad_norm 0")
    built = make_optimizer("AdaFactor", Toy().groups(), 1e-4, ["relative_step=False", "warmup_init=True"])
    assert built.kind == "relative"
    assert built.optimizer.param_groups[0]["relative_step"]
