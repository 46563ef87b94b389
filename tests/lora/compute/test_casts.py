"""Casts of all of a network's weights at once, and products that neighbours share: the same numbers as layer by layer, never old ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from library.lora.compute.casts import Casts
from library.lora.compute.shared_down import SharedDown, siblings

BF = torch.bfloat16


def layers() -> list[nn.Linear]:
    torch.manual_seed(1)
    return [nn.Linear(4, 3, bias=False) for _ in range(3)]


def test_casts_have_the_values_and_pass_gradients_on() -> None:
    made = layers()
    made[2].requires_grad_(False)
    casts = Casts(made)
    casts.begin()
    cast = [casts.of(layer.weight, BF) for layer in made]
    assert all(torch.equal(one, layer.weight.to(BF)) for one, layer in zip(cast, made, strict=True))
    assert [one.requires_grad for one in cast] == [True, True, False]
    (cast[0] * 2).sum().backward()
    assert made[0].weight.grad is not None and torch.equal(made[0].weight.grad, torch.full((3, 4), 2.0))
    assert made[1].weight.grad is None  # had no part


def test_a_weight_that_changed_or_a_new_pass_is_cast_anew() -> None:
    made = layers()
    casts = Casts(made)
    casts.begin()
    first = casts.of(made[0].weight, BF)
    assert casts.of(made[0].weight, BF) is first
    with torch.no_grad():
        made[0].weight.add_(1)
    assert torch.equal(casts.of(made[0].weight, BF), made[0].weight.to(BF))
    made[1].weight.data = made[1].weight.data + 1  # no version tells of this; the next pass does
    casts.begin()
    assert torch.equal(casts.of(made[1].weight, BF), made[1].weight.to(BF))


def test_between_passes_nothing_old_is_used() -> None:
    """As for a model whose root is never called, and weights that a fused optimizer changes: no version tells of that."""
    made = layers()
    casts = Casts(made)
    casts.of(made[0].weight, BF)
    made[0].weight.data = made[0].weight.data + 1
    assert torch.equal(casts.of(made[0].weight, BF), made[0].weight.to(BF))
    casts.begin()
    casts.of(made[0].weight, BF)
    casts.end()
    made[0].weight.data = made[0].weight.data + 1
    assert torch.equal(casts.of(made[0].weight, BF), made[0].weight.to(BF))


def test_a_pass_begins_and_ends_with_the_model_also_when_it_fails() -> None:
    class Part(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            assert casts.together
            return super().forward(input)

    casts, part = Casts(layers()), Part(4, 2)
    hooks = casts.around(part)
    part(torch.zeros(1, 4))
    with pytest.raises(RuntimeError):
        part(torch.zeros(1, 3))
    assert not casts.together
    for hook in hooks:
        hook.remove()
    with pytest.raises(AssertionError):
        part(torch.zeros(1, 4))


def test_casts_made_without_gradients_do_not_serve_a_pass_with_them() -> None:
    made = layers()
    casts = Casts(made)
    casts.begin()
    with torch.no_grad():
        assert not casts.of(made[0].weight, BF).requires_grad
    assert casts.of(made[0].weight, BF).requires_grad
    assert casts.of(made[0].weight, torch.float16).dtype == torch.float16
    assert casts.of(made[0].weight, torch.float32) is made[0].weight


def test_a_copied_network_casts_its_own_weights() -> None:
    made = layers()
    casts = Casts(made)
    casts.begin()
    casts.of(made[0].weight, BF)
    copied = copy.deepcopy(casts)
    other = nn.Linear(4, 3, bias=False)
    assert torch.equal(copied.of(other.weight, BF), other.weight.to(BF))


def shared(made: list[nn.Linear]) -> tuple[SharedDown, list[int]]:
    products: list[int] = []

    def down(layer: nn.Linear, dtype: torch.dtype) -> Tensor:
        products.append(1)
        return layer.weight.to(dtype)

    return SharedDown([lambda dtype, layer=layer: down(layer, dtype) for layer in made]), products  # type: ignore[misc]


def test_neighbours_multiply_once_and_get_what_they_would_alone() -> None:
    made = layers()
    together, products = shared(made)
    x = torch.randn(2, 5, 4, requires_grad=True)
    for _ in range(2):
        parts = [together.hidden(place, x, BF) for place in range(3)]
        for part, layer in zip(parts, made, strict=True):
            torch.testing.assert_close(part, x.to(BF) @ layer.weight.to(BF).T, rtol=0.02, atol=0.02)
    assert len(products) == 6
    assert together._met is None and not together._parts  # nothing is held on to


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_another_input_is_multiplied_by_itself(order: tuple[int, ...]) -> None:
    made = layers()
    together, _ = shared(made)
    for place in order:
        x = torch.randn(2, 4)
        torch.testing.assert_close(together.hidden(place, x, BF), x.to(BF) @ made[place].weight.to(BF).T, rtol=0.02, atol=0.02)


def test_only_self_attention_is_shared() -> None:
    paths = [f"down.{kind}.to_{name}" for kind in ("attn1", "attn2") for name in "qkv"] + [
        f"text.0.self_attn.{name}_proj" for name in "qkv"
    ]
    found = siblings({path.upper(): path for path in paths})
    assert found == [[f"DOWN.ATTN1.TO_{name}" for name in "QKV"], [f"TEXT.0.SELF_ATTN.{name}_PROJ" for name in "QKV"]]
    assert siblings({"a": "down.attn1.to_q", "b": "down.attn1.to_k"}) == []
