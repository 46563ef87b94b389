"""16-bit weights: rounding at random is right on average, small updates are not lost, and a resume rounds as before."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from library.training.optim import stochastic_rounding
from library.training.optim.optimizer import make_optimizer
from library.training.optim.stochastic_rounding import stochastic_round
from tests.messages import refused
from tests.training.optim.toys import Toy, take_steps

HALVES = (torch.bfloat16, torch.float16)
EACH = ("AdamW", "AdamW8bit", "PagedAdamW8bit", "Lion", "Lion8bit", "SGDNesterov", "SGDNesterov8bit", "AdaFactor", "RMSprop")


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", HALVES)
def test_rounding_takes_one_of_the_two_neighbours_and_is_right_on_average(dtype) -> None:
    """Values over many magnitudes, fp16's evenly spaced small ones among them; the mean over 4,000 draws within 5 deviations."""
    values = torch.randn(400, generator=drawn()) * 10.0 ** torch.linspace(-7, 3, 400)
    nearest = values.to(dtype)
    toward = torch.where(values > nearest.float(), torch.inf, -torch.inf).to(dtype)
    other = torch.where(values == nearest.float(), nearest, torch.nextafter(nearest, toward))
    rounded = torch.stack([stochastic_round(values, dtype, drawn(seed)).float() for seed in range(4000)])
    assert ((rounded == nearest.float()) | (rounded == other.float())).all()
    spacing = (other.float() - nearest.float()).abs()
    assert ((rounded.mean(0) - values).abs() <= 5 * spacing / 2 / 4000**0.5 + 1e-12).all()
    assert (rounded.std(0) > 0).sum() > 300


@pytest.mark.parametrize("dtype", HALVES)
def test_what_the_dtype_holds_stays_and_what_it_does_not_reach_is_infinite(dtype) -> None:
    held = (torch.randn(5000, generator=drawn()) * 10.0 ** torch.linspace(-8, 4, 5000)).to(dtype)
    assert torch.equal(stochastic_round(held.float(), dtype, drawn()), held)
    odd = stochastic_round(torch.tensor([float("inf"), -float("inf"), float("nan"), 3.4e38, 0.0]), dtype, drawn())
    assert odd[0] == float("inf") and odd[1] == -float("inf") and odd[2].isnan() and odd[3] == float("inf") and odd[4] == 0


@pytest.mark.parametrize("dtype", HALVES)
def test_updates_far_below_the_spacing_add_up(dtype) -> None:
    """1,000 updates of 1e-5 on weights of 1: bf16's spacing there is 0.0078 and fp16's 0.00098, so nearest rounding never moves."""
    weights = torch.nn.Parameter(torch.ones(2000, dtype=dtype))
    plain = weights.detach().clone()
    built = make_optimizer("torch.optim.SGD", [{"params": [weights]}], 1e-5, rounding_seed=3)
    for _ in range(1000):
        weights.grad = torch.ones_like(weights)
        plain -= 1e-5
        built.optimizer.step()
    assert (plain == 1).all()
    assert weights.dtype == dtype and weights.float().mean().item() == pytest.approx(0.99, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", EACH)
def test_each_optimizer_learns_in_16_bits_as_in_32_and_resumes_bit_for_bit(name, dtype, monkeypatch) -> None:
    """Parts of one parameter each (AT_ONCE 1), as a large model has them; what is remembered stays in float32."""
    monkeypatch.setattr(stochastic_rounding, "AT_ONCE", 1)
    whole, half = Toy(), Toy().to(dtype)
    reference = make_optimizer(name, whole.groups(), 3e-3)
    built = make_optimizer(name, half.groups(), 3e-3, rounding_seed=1)
    assert type(built.optimizer).__name__ == type(reference.optimizer).__name__
    expected, losses = take_steps(whole, reference.optimizer, range(30)), take_steps(half, built.optimizer, range(30))
    assert losses[-1] == pytest.approx(expected[-1], rel=0.1, abs=0.02) and all(p.dtype == dtype for p in half.parameters())
    state_tensors = [value for state in built.optimizer.state.values() for value in state.values() if torch.is_tensor(value) and value.ndim]
    assert all(value.dtype in (torch.float32, torch.uint8) for value in state_tensors)
    file = io.BytesIO()
    torch.save(built.optimizer.state_dict(), file)
    again = copy.deepcopy(half)
    other = make_optimizer(name, again.groups(), 3e-3, rounding_seed=1)
    file.seek(0)
    other.optimizer.load_state_dict(torch.load(file, weights_only=False))
    assert take_steps(half, built.optimizer, range(30, 35)) == take_steps(again, other.optimizer, range(30, 35))
    assert all(torch.equal(one, two) for one, two in zip(half.parameters(), again.parameters(), strict=True))


def test_parts_change_nothing_but_the_memory() -> None:
    results = []
    for at_once in (1, 2**30):
        toy = Toy().bfloat16()
        built = make_optimizer("AdamW", toy.groups(), 1e-3, rounding_seed=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stochastic_rounding, "AT_ONCE", at_once)
            take_steps(toy, built.optimizer, range(3))
        results.append([parameter.detach().clone() for parameter in toy.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_optimizers_that_find_their_rate_look_at_everything_at_once() -> None:
    toy = Toy().bfloat16()
    built = make_optimizer("Prodigy", toy.groups(), 1.0, rounding_seed=1)
    assert not built.optimizer.one_by_one
    take_steps(toy, built.optimizer, range(10))
    assert built.optimizer.param_groups[0]["d"] > 1e-6
    with refused("OPT-016", "Prodigy", "--full_fp16 and --full_bf16"):
        make_optimizer("Prodigy", Toy().bfloat16().groups(first=1.0, second=0.5), 1.0, rounding_seed=1)
    with refused("OPT-016", "schedulefree.AdamWScheduleFree"):
        make_optimizer("schedulefree.AdamWScheduleFree", Toy().bfloat16().groups(), 1e-3, rounding_seed=1)
