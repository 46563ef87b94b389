"""Files that are written whole have the rights that any new file has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from library.files import atomic_write
from library.words import in_words


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_others_may_read_a_file_that_safetensors_has_written(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("x", encoding="utf-8")
    with atomic_write(tmp_path / "lora.safetensors") as temporary:
        save_file({"a": torch.zeros(2)}, temporary)
    assert (tmp_path / "lora.safetensors").stat().st_mode == plain.stat().st_mode


def test_sizes_are_told_in_digits_at_every_size() -> None:
    assert [in_words(size) for size in (0, 999, 1000, 1023, 1000 * 1024, 1023 * 1024, 2**20, 1.5 * 2**30)] == [
        "0 bytes", "999 bytes", "0.977 KiB", "0.999 KiB", "0.977 MiB", "0.999 MiB", "1 MiB", "1.5 GiB"]  # fmt: skip
