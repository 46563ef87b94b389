"""What is trained is kept in the precision that --full_fp16 and --full_bf16 say, and nothing else is touched."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from library.training.precision import settle_dtypes


@pytest.mark.parametrize(
    ("full", "dtype"), [({}, torch.float32), ({"full_bf16": True}, torch.bfloat16), ({"full_fp16": True}, torch.float16)]
)
def test_only_what_is_trained_is_brought_to_16_bits(full: dict, dtype: torch.dtype) -> None:
    """As of a network, which is made in float32 beside a model that is loaded in whatever the run computes in."""
    trained, frozen = nn.Linear(3, 2), nn.Linear(3, 2)
    method = SimpleNamespace(param_groups=lambda: [{"params": [trained.weight]}, {"params": [trained.bias]}])
    before = trained.weight.detach().clone()
    asked = SimpleNamespace(**{"full_fp16": False, "full_bf16": False, "fp8_base": False, **full})
    settle_dtypes(SimpleNamespace(unet=frozen, text_encoder=frozen), method, asked)
    assert {parameter.dtype for parameter in trained.parameters()} == {dtype}
    assert {parameter.dtype for parameter in frozen.parameters()} == {torch.float32}
    assert torch.equal(trained.weight, before.to(dtype))
