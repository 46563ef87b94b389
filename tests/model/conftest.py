"""Small checkpoints that the tests of this room share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from library.model.bundle import StableDiffusion
from library.model.load import load
from tests.small_models import write_checkpoint, write_diffusers

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub is imported: tests never wait for a network

VERSIONS = ("v1", "v2")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """An original-layout .safetensors of each version; not to be changed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {version: write_checkpoint(folder / f"{version}.safetensors", version) for version in VERSIONS}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The same models as Diffusers folders; not to be changed."""
    folder = tmp_path_factory.mktemp("diffusers")
    return {version: write_diffusers(folder / version, version) for version in VERSIONS}


@pytest.fixture(scope="session")
def models(checkpoints) -> dict[str, StableDiffusion]:
    """Both loaded, in float32; not to be changed."""
    return {version: load(checkpoints[version], v2=version == "v2") for version in VERSIONS}
