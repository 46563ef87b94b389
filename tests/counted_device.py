"""What a step would cost a GPU, counted without one: on torch's `meta` device, with CUDA's rules for autocast, each operation that is more
than a view is a kernel; those that are no matrix product move the bytes of all that they read and write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MATRIX = frozenset(
    {
        *("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward"),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_backward"),
    }
)
FREE = frozenset(
    {"_unsafe_view", "detach", "alias", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh"}
)

# Autocast of CUDA, as PyTorch's documentation lists it ("CUDA Ops that can autocast to float16 / to float32"), as far as the step has them.
TO_16_BITS = frozenset(
    {F.linear, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, torch.addmm, torch.bmm, torch.baddbmm}
)
TO_32_BITS = frozenset({F.layer_norm, F.group_norm, F.softmax, torch.softmax, Tensor.softmax, torch.exp, Tensor.exp, torch.pow, Tensor.pow})


class Counted(TorchDispatchMode):
    """`kernels` by operation, and `moved`: bytes that operations other than matrix products read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        views = any(returned.alias_info is not None and not returned.alias_info.is_write for returned in function._schema.returns)
        touched = [leaf for leaf in tree_leaves((args, kwargs or {}, result)) if isinstance(leaf, Tensor)]
        if not views and name not in FREE and any(tensor.is_meta for tensor in touched):  # the rest is the CPU's work
            self.kernels[name] += 1
            if name not in MATRIX:
                self.moved[name] += sum(tensor.numel() * tensor.element_size() for tensor in touched)
        return result

    @property
    def total(self) -> tuple[int, float]:
        """Kernels, and gigabytes moved."""
        return self.kernels.total(), self.moved.total() / 1e9


class CudaAutocast(TorchFunctionMode):
    """`torch.autocast("cuda", torch.bfloat16)` for tensors on `meta`, where attention is one kernel as on a GPU, or on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self._cast: dict[int, Tensor] = {}

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if self.enabled and function in TO_16_BITS:
            args, named = tuple(map(self._narrow, args)), {key: self._narrow(value) for key, value in named.items()}
        elif self.enabled and function in TO_32_BITS:
            args, named = tuple(map(_wide, args)), {key: _wide(value) for key, value in named.items()}
        elif function is F.scaled_dot_product_attention:
            args = tuple(self._narrow(one) if self.enabled else one for one in args)
            if args[0].is_meta:
                return torch.ops.aten._scaled_dot_product_flash_attention(*args[:3], 0.0, False, False)[0]
        return function(*args, **named)

    def _narrow(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(torch.bfloat16)
        if id(value) not in self._cast:  # autocast keeps the casts of weights
            self._cast[id(value)] = value.to(torch.bfloat16)
        return self._cast[id(value)]


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """Inside, what runs under bf16 autocast on `meta` is counted."""
    rules = CudaAutocast()

    @contextmanager
    def autocast(device_type: str, enabled: bool = True, **_: Any) -> Iterator[None]:
        before, rules.enabled = rules.enabled, enabled
        yield
        rules.enabled = before

    monkeypatch.setattr(torch, "autocast", autocast)
    with Counted() as counts, rules:
        yield counts
