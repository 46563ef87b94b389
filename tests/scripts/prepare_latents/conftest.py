"""Images and their metadata."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.material import photo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images, one of them in a folder inside, and their metadata in both forms of keys."""
    images = tmp_path / "pictures"
    for number, size in enumerate(((96, 64), (64, 64), (70, 120))):
        photo(images / f"{number}.png", size, seed=number)
    photo(images / "inside" / "3.jpg", (64, 64), seed=3)
    names = ["0", "1", "2", "inside/3"]
    (tmp_path / "meta.json").write_text(json.dumps({name: {"caption": f"thing {name}", "rest": 1} for name in names}), encoding="utf-8")
    paths = {name: next((images / name).parent.glob(Path(name).name + ".*")) for name in names}
    (tmp_path / "full.json").write_text(json.dumps({str(path): {"tags": name} for name, path in paths.items()}), encoding="utf-8")
    return tmp_path
