"""Files that are written whole have the rights that any new file has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from library.files import atomic_folder, atomic_write
from library.renaming import fits, is_there, is_too_long
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


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "か" * 83 + ".npz", "é" * 125 + ".json", "n" * 250 + ".x"])
def test_a_file_of_the_longest_name_is_written_like_any_other(tmp_path: Path, name: str) -> None:
    for text in ("one", "two"):
        with atomic_write(tmp_path / name) as temporary:
            assert temporary.name.startswith(".") and len(os.fsencode(temporary.name)) <= 255
            if name.endswith(".npz"):
                with temporary.open("wb") as file:
                    np.savez(file, a=1)
            else:
                temporary.write_text(text, encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with atomic_folder(tmp_path / ("f" * 255)) as fresh:
        (fresh / "a").write_text("x", encoding="utf-8")
    with atomic_folder(tmp_path / ("f" * 255)) as fresh:
        (fresh / "b").write_text("x", encoding="utf-8")
    assert [path.name for path in (tmp_path / ("f" * 255)).iterdir()] == ["b"]


def test_a_name_that_is_too_long_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / ("n" * 256)) as temporary:
        temporary.write_text("x", encoding="utf-8")
    assert is_too_long(caught.value) and not list(tmp_path.iterdir())
    assert not is_there(tmp_path / ("n" * 256)) and fits(tmp_path / ("n" * 255)) and not fits(tmp_path / ("か" * 86))
