"""Images with which nothing is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.faulty_dataset import picture


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six images of three shapes with captions; nothing is wrong with them."""
    (tmp_path / "dog").mkdir()
    for n, size in enumerate(((160, 160), (160, 160), (192, 128), (192, 128), (128, 192), (128, 192))):
        picture(n, size).save(tmp_path / f"dog/{n}.png")
        (tmp_path / f"dog/{n}.txt").write_text(f"my-word, number {n}, grass", encoding="utf-8")
    return tmp_path / "dog"
