"""A sound file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound file of two tensors and some metadata."""
    path = tmp_path_factory.mktemp("small") / "a.safetensors"
    save_file({"a": torch.ones(2, 3), "b": torch.ones(3, 2), "c": torch.tensor(1.0)}, path, {"ss_network_module": "networks.lora"})
    return path.read_bytes()
