"""The size of a state that the plan expects, compared with the files of a saved one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from library.training.optim.optimizer import make_optimizer
from library.training.saving.disk_room import state_size


class Method:
    """One large and ten small trained tensors."""

    def __init__(self) -> None:
        self.module = nn.ParameterList([torch.randn(256, 64), *(torch.randn(4, 64) for _ in range(10))])

    def modules(self) -> list[nn.Module]:
        return [self.module]


@pytest.mark.parametrize("name", ["AdamW", "AdamW8bit", "Lion8bit", "SGDNesterov8bit"])
def test_the_expected_size_of_a_state_is_that_of_its_tensors(name: str, tmp_path: Path) -> None:
    """Small tensors of an 8-bit optimizer have a 32-bit state."""
    if name != "AdamW":
        pytest.importorskip("bitsandbytes")
    method = Method()
    built = make_optimizer(name, [{"params": list(method.module), "lr": 1e-3}], 1e-3)
    for parameter in method.module:
        parameter.grad = torch.randn_like(parameter)
    built.optimizer.step()
    torch.save({"weights": method.module.state_dict(), "optimizer": built.optimizer.state_dict()}, tmp_path / "state.pt")
    written = (tmp_path / "state.pt").stat().st_size
    assert state_size(method, built.optimizer, name) == pytest.approx(written, rel=0.1, abs=12_000)  # type: ignore[arg-type]
