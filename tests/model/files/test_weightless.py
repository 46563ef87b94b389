"""Modules without memory for their weights."""

from __future__ import annotations

import torch
from torch import nn

from library.model.files.weightless import weightless


def test_shapes_and_dtypes_are_there_and_nothing_is_drawn() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with weightless():
        parts = [nn.Linear(3, 2), nn.Embedding(5, 4), nn.Conv2d(1, 2, 3), nn.LayerNorm(4)]
        nn.init.normal_(parts[0].weight, std=0.02)
        nn.init.kaiming_uniform_(tensor=parts[0].weight)
        nn.init.trunc_normal_(parts[0].weight)
        places = torch.arange(7).expand((1, -1))
        halves = torch.arange(1, 3, 0.5, dtype=torch.float16)
    assert all(one.is_meta for part in parts for one in part.parameters()) and parts[0].weight.shape == (2, 3)
    assert places.is_meta and places.shape == (1, 7) and places.dtype == torch.int64
    assert halves.is_meta and halves.shape == (4,) and halves.dtype == torch.float16
    assert torch.equal(torch.get_rng_state(), before)
    assert nn.Linear(2, 2).weight.abs().sum() > 0  # outside it is as ever
