"""Folders of images for the tests of latents on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from library.data.pixels import latent_files
from tests.data.material import photos


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of the tests are as fresh as can be; a time of freshness of nothing lets their stamps be relied on."""
    monkeypatch.setattr(latent_files, "_FRESH", -1)


@pytest.fixture
def folder(tmp_path: Path, long_ago: None) -> Path:
    """Nine images in two buckets, changed long ago as far as the file system knows."""
    for path in [*photos(tmp_path / "dog", 4, (100, 64)), *photos(tmp_path / "cat", 5, (64, 70))]:
        os.utime(path, (1.7e9, 1.7e9))
    return tmp_path
