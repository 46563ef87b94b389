"""The moving average follows its formula, comes and goes without a trace, and is kept in a state."""

from __future__ import annotations

import numpy
import pytest
import torch
from torch import nn

from library.training.optim import ema as ema_room
from library.training.optim.ema import Ema
from tests.messages import refused


def test_averages_follow_the_formula_in_float64() -> None:
    """m ← d·m + (1−d)·w, d = min(decay, (1+n)/(10+n))."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    ema, expected = Ema([weight], 0.6), weight.detach().double().numpy().copy()
    rng = numpy.random.default_rng(0)
    for count in range(30):
        fresh = rng.normal(size=2)
        with torch.no_grad():
            weight.copy_(torch.tensor(fresh))
        ema.update()
        decay = min(0.6, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * fresh
        with ema.averaged():
            numpy.testing.assert_allclose(weight.detach().double().numpy(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_weights_moved_at_once_get_the_bits_of_each_moved_alone(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ema_room, "_AT_ONCE", 40)  # in shares of one tensor, of two, and of one that is too large
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5), (20,), (41,), (2, 3, 3), (7,), (1,)]
    weights = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    ema, alone = Ema(weights, 0.999), [weight.detach().float().clone() for weight in weights]
    assert [len(averages) for averages, _ in ema._shares] == [2, 1, 3]
    for count in range(20):
        with torch.no_grad():
            for weight in weights:
                weight.add_(torch.randn(weight.shape, generator=generator).to(dtype))
        ema.update()
        decay = min(0.999, (1 + count) / (10 + count))
        for average, weight in zip(alone, weights, strict=True):
            average.lerp_(weight.detach().float(), 1 - decay)
        assert all(torch.equal(averaged, wanted) for averaged, wanted in zip(ema.tensors(), alone, strict=True))


def test_the_weights_come_back_bit_for_bit_whatever_happens_inside() -> None:
    layer = nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    ema = Ema(layer.parameters(), 0.9)
    with torch.no_grad():
        layer.weight.add_(1)
    ema.update()
    addresses = [parameter.data_ptr() for parameter in layer.parameters()]
    with pytest.raises(RuntimeError), ema.averaged():
        assert not torch.equal(layer.weight, before[0] + 1)
        raise RuntimeError
    assert torch.equal(layer.weight, before[0] + 1) and [parameter.data_ptr() for parameter in layer.parameters()] == addresses


def test_half_precision_weights_are_averaged_in_float32() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    ema = Ema([weight], 0.999)
    ema.updates = 100_000
    with torch.no_grad():
        weight.fill_(2)
    for _ in range(1000):
        ema.update()
    with ema.averaged():  # 2 − 0.999¹⁰⁰⁰ = 1.632; in bfloat16 each step of 0.001 would be lost
        assert weight.dtype == torch.bfloat16 and weight.item() == pytest.approx(1.632, abs=0.01)


def test_a_state_gives_back_averages_and_count(tmp_path) -> None:
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    ema = Ema(one.parameters(), 0.9)
    assert not ema.load(tmp_path)
    for _ in range(3):
        with torch.no_grad():
            one.weight.add_(1)
        ema.update()
    ema.save(tmp_path)
    again = Ema(other.parameters(), 0.9)
    assert again.load(tmp_path) and again.updates == 3
    with ema.averaged(), again.averaged():
        assert torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)
    with refused("STATE-005", "--resume"):
        Ema(nn.Linear(2, 2).parameters(), 0.9).load(tmp_path)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_that_averages_nothing_is_refused(decay) -> None:
    with refused("OPT-006", f"--ema_decay {decay:g}:", "below 1"):
        Ema([], decay)
