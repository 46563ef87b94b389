"""16-bit weights that still learn: each update is computed in float32 and rounded up or down at random, exact on average."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from library.seeds import fold

AT_ONCE = 2**26  # values in float32 at a time, where the optimizer updates each parameter separately
ROUNDED = "rounded_updates"  # in the first group, so that it is saved with the optimizer's state
_FP16_DIGITS, _FP16_LEAST = 11, -13  # significant bits; exponent (of ½ ≤ m < 1) below which fp16's numbers are evenly spaced


def stochastic_round(values: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Round float32 `values` to bfloat16 or float16: to one of the two nearest numbers, with probabilities that keep the mean.

    E[round(x)] = x (Gupta et al. 2015, eq. 2), so that updates far below half a spacing, which rounding to nearest always loses, add up.
    Values that the dtype represents exactly do not change; values beyond its range become infinite, as with any other rounding.
    """
    assert values.dtype == torch.float32, values.dtype
    if dtype == torch.bfloat16:  # the upper half of the float32 bits: a random lower half carries into it with the right probability
        chance = torch.randint(0, 2**16, values.shape, generator=generator, device=values.device, dtype=torch.int32)
        return ((values.view(torch.int32) + chance) & -(2**16)).view(torch.float32).to(dtype)
    assert dtype == torch.float16, dtype
    _, exponent = torch.frexp(values)
    spacing = torch.ldexp(torch.ones_like(values), exponent.clamp(min=_FP16_LEAST) - _FP16_DIGITS)
    steps = values / spacing  # exact: the spacing is a power of two
    below = steps.floor()
    chance = torch.rand(values.shape, generator=generator, device=values.device)
    return ((below + (chance < steps - below)) * spacing).to(dtype)


@functools.cache
def with_float32_steps(kind: type[Optimizer]) -> type[Optimizer]:
    """The optimizer class `kind` for 16-bit weights: its steps and its state are in float32.

    A step widens weights and gradients, `AT_ONCE` values at a time (all together where `one_by_one` is False, for optimizers that look at
    all parameters at once). `stochastic_round` rounds the new weights, seeded with (`seed`, number of the update): the same on every
    process and after a resume. The float32 gradients are multiplied by `gradient_factor`: fp16's loss scale and clipping belong there.
    """

    class Float32Steps(kind):  # type: ignore[valid-type,misc]  # base class known only at run time
        seed = 0
        one_by_one = False
        gradient_factor = 1.0

        @torch.no_grad()
        def step(self, closure: object = None) -> None:
            assert closure is None, "training on batches has no closure"
            first = self.param_groups[0]
            first[ROUNDED] = first.get(ROUNDED, 0) + 1
            draws = fold(self.seed, "rounding", first[ROUNDED]) & 0xFFFF_FFFF_FFFF
            waiting = [(p, p.grad) for group in self.param_groups for p in group["params"] if p.grad is not None]
            generators = {p.device: torch.Generator(p.device).manual_seed(draws) for p, _ in waiting}
            for parameter, _ in waiting:
                parameter.grad = None
            for part in _parts(waiting, self.one_by_one):
                originals = [parameter.data for parameter, _ in part]
                for parameter, gradient in part:
                    parameter.data = parameter.data.float()
                    parameter.grad = gradient.float() * self.gradient_factor
                super().step()
                for (parameter, _), weights in zip(part, originals, strict=True):
                    stepped, parameter.grad = parameter.data, None
                    if weights.dtype != torch.float32:
                        weights.copy_(stochastic_round(stepped, weights.dtype, generators[parameter.device]))
                        parameter.data = weights

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            with _as_float32(self.param_groups):  # torch casts the state to its parameter's dtype
                super().load_state_dict(state_dict)

    Float32Steps.__name__, Float32Steps.__qualname__, Float32Steps.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Float32Steps


def _parts(waiting: Sequence[tuple[Tensor, Tensor]], one_by_one: bool) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """`waiting` in pieces of up to AT_ONCE values; a larger parameter is a separate piece."""
    if not one_by_one:
        yield list(waiting)
        return
    part: list[tuple[Tensor, Tensor]] = []
    values = 0
    for pair in waiting:
        if part and values + pair[0].numel() > AT_ONCE:
            yield part
            part, values = [], 0
        part.append(pair)
        values += pair[0].numel()
    if part:
        yield part


@contextlib.contextmanager
def _as_float32(groups: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Inside, every parameter is an empty float32 tensor on its device."""
    originals = [(parameter, parameter.data) for group in groups for parameter in group["params"]]
    for parameter, data in originals:
        parameter.data = torch.empty(0, dtype=torch.float32, device=data.device)
    try:
        yield
    finally:
        for parameter, data in originals:
            parameter.data = data
