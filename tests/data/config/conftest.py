"""Folders that a config can name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.material import photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos(tmp_path / "dog", 2)
    photos(tmp_path / "reg", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "meta.json").write_text(json.dumps({"00": {"caption": "a dog"}, "01": {"tags": "dog"}}), encoding="utf-8")
    return tmp_path
