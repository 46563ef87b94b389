"""A network's file appears whole or not at all, by its own writer or by ours, and is put in its place once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from library import files
from library.lora.layers import Target
from library.lora.network import LoRANetwork
from library.lora.settings import Rank
from library.methods.adapted_network import AdaptedNetwork


class Plain(nn.Module):
    """A network of another origin, whose writer knows nothing of whole files."""

    def __init__(self, breaks: bool = False) -> None:
        super().__init__()
        self.breaks, self.wrote = breaks, ""

    def save_weights(self, file: str, dtype: torch.dtype | None, metadata: dict[str, str] | None) -> None:
        self.wrote = file
        Path(file).write_bytes(b"half of it")
        if self.breaks:
            raise OSError("the disk went away")


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were put in their place."""
    seen: list[Path] = []
    real = files.put_in_place
    monkeypatch.setattr(files, "put_in_place", lambda source, target: (seen.append(target), real(source, target)))
    return seen


def test_a_lora_writes_its_file_aside_once(tmp_path: Path, placed: list[Path]) -> None:
    network = LoRANetwork({"lora_unet_a": Target("lora_unet_a", "a", nn.Linear(4, 4))}, {"lora_unet_a": Rank(2, 1.0)})
    AdaptedNetwork(network).save(tmp_path / "a.safetensors", None, {"ss_epoch": "1"})
    assert placed == [tmp_path / "a.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_file_of_a_writer_that_knows_nothing_of_it_is_whole_or_not_there(tmp_path: Path, placed: list[Path]) -> None:
    target = tmp_path / "a.safe"
    network = Plain()
    AdaptedNetwork(network).save(target, None, None)
    assert target.read_bytes() == b"half of it" and network.wrote.endswith(".safe") and placed == [target]
    target.unlink()
    with pytest.raises(OSError, match="went away"):
        AdaptedNetwork(Plain(breaks=True)).save(target, None, None)
    assert not list(tmp_path.iterdir())
