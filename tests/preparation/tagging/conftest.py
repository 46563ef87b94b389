"""A tagger whose answers are known, and images for it."""

from pathlib import Path

import pytest

from tests.preparation.tagging.starting import colour
from tests.preparation.tiny_tagger import write_tagger


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagger(tmp_path_factory.mktemp("tagger"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    colour(tmp_path / "images" / "blue.png", blue=1)
    colour(tmp_path / "images" / "red.png", red=0.8, green=0.3)
    return tmp_path / "images"
