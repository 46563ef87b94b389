"""The masks that inpainting models fill in: their kinds and shares, and those of files, cut as their images are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.data.batching.buckets import fill
from library.data.config.blueprint import DatasetBlueprint, DatasetOptions, DatasetSpec, SubsetOptions
from library.data.pixels.fill_masks import SHARES, FillMasks, drawn_mask, drawn_masks
from library.data.pixels.images import load_image
from library.data.scan.mask_files import with_masks
from library.data.scan.records import scan
from library.seeds import fold
from tests.messages import refused

SIZE = (96, 64)


def kind(mask: np.ndarray) -> str:
    """From its pixels alone: nothing, all, or a part, with right angles only or not."""
    if mask.all() or not mask.any():
        return "whole" if mask.all() else "none"
    turns = mask[1:, 1:].astype(int) + mask[:-1, 1:] + mask[1:, :-1] + mask[:-1, :-1]
    return "boxes" if np.isin(turns, (1, 3)).sum() <= 40 else "strokes"  # three boxes have few corners, a stroke's edge has many


def test_the_shares_are_those_that_are_stated() -> None:
    kinds = Counter(kind(drawn_mask(fold(seed), (256, 256))) for seed in range(2000))
    assert sum(share for _, share in SHARES) == pytest.approx(1)
    for name, share in SHARES:
        assert abs(kinds[name] / 2000 - share) < 0.04, (name, kinds)


def test_a_mask_is_a_function_of_its_seed_and_its_size() -> None:
    masks = drawn_masks([3, 4, 5, 3], SIZE)
    assert masks.shape == (4, 1, 64, 96) and set(np.unique(masks)) <= {0, 1}
    assert (masks[0] == masks[3]).all() and any((masks[0] != other).any() for other in masks[1:3])
    assert all((drawn_mask(seed, SIZE) == mask[0]).all() for seed, mask in zip([3, 4, 5, 3], masks, strict=True))


def test_parts_are_masked_of_sizes_worth_learning() -> None:
    covered = [float(drawn_mask(fold(seed), (64, 64)).mean()) for seed in range(1000)]
    part = [share for share in covered if 0 < share < 1]
    assert 0.15 < np.mean(part) < 0.5 and min(part) > 0.003


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image that is red where its mask is white, which is left of the middle and above it."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    red = np.zeros((80, 160, 3), np.uint8)
    red[:30, :50, 0] = 255
    Image.fromarray(red).save(tmp_path / "images" / "a.png")
    Image.fromarray(red[..., 0]).resize((320, 160), Image.Resampling.NEAREST).save(tmp_path / "masks" / "a.png")
    return tmp_path


@pytest.mark.parametrize("more", [{}, {"flip_aug": True}, {"random_crop": True, "flip_aug": True}], ids=str)
def test_a_mask_of_a_file_lies_on_its_image(more: dict[str, bool], picture: Path) -> None:
    subset = SubsetOptions(image_dir=picture / "images", conditioning_data_dir=picture / "masks", place="here", class_tokens="a", **more)
    data = with_masks(scan(DatasetBlueprint((DatasetSpec(DatasetOptions((64, 64), 1), (subset,)),))), masked_loss=False, inpainting=True)
    filled = fill(data)
    assert filled.blueprint.inpainting and filled.records[0].mask is None and filled.records[0].fill_mask is not None
    shown = set()
    for seed in range(8):
        (place,) = filled.placements
        mask = FillMasks(filled).of([(0, seed)], [place])[0, 0].astype(bool)
        red = load_image(filled.records[0], place, seed)[0] > 0
        assert (mask != red).mean() < 0.03
        shown.add(mask.tobytes())
    assert len(shown) > (1 if more else 0)


def test_a_missing_mask_file_is_told_as_for_masked_loss(picture: Path) -> None:
    (picture / "masks" / "a.png").unlink()
    subset = SubsetOptions(image_dir=picture / "images", conditioning_data_dir=picture / "masks", place="here", class_tokens="a")
    with refused("DATA-009", "here", "1 of 1 image", picture / "masks", "(a.png)"):
        with_masks(scan(DatasetBlueprint((DatasetSpec(DatasetOptions((64, 64), 1), (subset,)),))), masked_loss=False, inpainting=True)
