"""The weights of a model's parts, as its header tells them, against the full-size models themselves."""

from __future__ import annotations

import pytest

from benchmarks.make_model import SIZES, _parts, original_infos
from library.model.family import FAMILIES
from library.model.files.part_sizes import part_sizes


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_sizes_of_the_header_are_those_of_the_model(version: str) -> None:
    """Made without memory for their weights."""
    sizes = part_sizes(original_infos(version, SIZES[version, "full"]))
    assert sizes == FAMILIES[version].sizes
    parts = _parts(version, SIZES[version, "full"])
    assert sizes.unet == sum(weight.numel() for weight in parts["unet"].parameters())
    assert sizes.vae == sum(weight.numel() for weight in parts["vae"].parameters())
    assert FAMILIES[version].text_encoders[0].width == parts["text_encoder"].config.hidden_size
