"""Masks of the loss go the way of their images: found by name, scaled, cropped and flipped alike, averaged to the size of latents."""

from __future__ import annotations

import pickle
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from library.data.batching.buckets import FilledData, fill
from library.data.batching.sampler import EpochSampler
from library.data.config.folders import from_folders
from library.data.loading.dataset import TrainingDataset
from library.data.pixels.images import brightness, load_image
from library.data.pixels.latent_build import build, look
from library.data.pixels.latent_plan import CacheRules
from library.data.pixels.mask_extent import with_masks_seen
from library.data.pixels.masks import Masks
from library.data.scan.mask_files import with_masks
from library.data.scan.records import scan
from library.errors import Problem, UserError
from tests.data.material import encode, one_epoch, photos, read, tokenize
from tests.data.pixels.profiles import grey_profile
from tests.messages import message, refusal, refusals, refused

SUBSET = """[[datasets]]
resolution = 64
batch_size = 2
enable_bucket = {bucket}
min_bucket_reso = 32
max_bucket_reso = 128
bucket_reso_steps = 16
{keys}
"""


def pictures(folder: Path, names: str, size: tuple[int, int] = (96, 64)) -> np.ndarray:
    """Grey images of blurred noise, in which every place looks different; returns the last one's pixels [H,W]."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names.split()):
        coarse = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8)).astype(np.uint8)
        grey = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        Image.merge("RGB", [grey] * 3).save(folder / name)
    return np.asarray(grey)


def filled(folder: Path, keys: str, masked_loss: bool = True, bucket: str = "true") -> FilledData:
    keys = f"[[datasets.subsets]]\nimage_dir = '{folder / 'images'}'\nclass_tokens = 'x'\n{keys}"
    return fill(with_masks(scan(read(folder, SUBSET.format(bucket=bucket, keys=keys))), masked_loss))


def averaged(pixels: np.ndarray) -> torch.Tensor:
    """[3,H,W] in −1…1 to [H/8,W/8] in 0…1 through torch's own pooling."""
    return torch.nn.functional.avg_pool2d(torch.from_numpy(pixels[:1]), 8)[0] / 2 + 0.5


@pytest.mark.parametrize(
    "keys", ["flip_aug = true", "flip_aug = true\nrandom_crop = true", "face_crop_aug_range = [1.0, 3.0]\nrandom_crop = true"]
)
@pytest.mark.parametrize("size", [(96, 64), (200, 100), (40, 90)])
def test_a_mask_equal_to_its_image_stays_equal_to_it_in_every_draw(tmp_path: Path, keys: str, size: tuple[int, int]) -> None:
    """Every change of the image is a change of its mask: so a mask with the image's pixels shows the image again."""
    for folder in ("images", "masks"):
        pictures(tmp_path / folder, "a_30_40_16_16.png b.png", size)
    data = filled(tmp_path, f"conditioning_data_dir = '{tmp_path / 'masks'}'\n{keys}")
    masks = Masks(data)
    for record in range(2):
        for seed in range(12):
            shown = averaged(load_image(data.records[record], data.placements[record], seed))
            mask = masks.of([(record, seed)])
            assert mask.shape == (1, 1, *shown.shape)
            torch.testing.assert_close(mask[0, 0], shown, atol=1e-5, rtol=0)


def test_transparency_is_the_mask_and_goes_the_same_way(tmp_path: Path) -> None:
    grey = pictures(tmp_path / "grey", "a.png", (100, 60))
    (tmp_path / "images").mkdir()
    Image.fromarray(np.dstack([np.zeros((60, 100, 3), np.uint8), grey])).save(tmp_path / "images" / "a.png")
    pictures(tmp_path / "images", "b.jpg", (100, 60))
    data = filled(tmp_path, "alpha_mask = true\nflip_aug = true", masked_loss=False)
    masks = Masks(data)
    for seed in range(8):
        # black under alpha on white shows white − alpha
        shown = 1 - averaged(load_image(data.records[0], data.placements[0], seed))
        both = masks.of([(0, seed), (1, seed)])
        torch.testing.assert_close(both[0, 0], shown, atol=5e-3, rtol=0)
        assert (both[1] == 1).all()


def test_cached_latents_get_the_masks_that_their_flips_need(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        pictures(tmp_path / folder, "a.png b.png c.png")
    data = filled(tmp_path, f"conditioning_data_dir = '{tmp_path / 'masks'}'\nflip_aug = true\nnum_repeats = 3")
    cache, sampler = build(look(data, CacheRules()), encode), EpochSampler(data, 1)
    plain, cached = TrainingDataset(data, tokenize), pickle.loads(pickle.dumps(TrainingDataset(data, tokenize, cache=cache)))
    for epoch in range(2):
        for one, other in zip(one_epoch(plain, sampler, epoch), one_epoch(cached, sampler, epoch), strict=True):
            assert torch.equal(one.masks, other.masks)
            shown = torch.nn.functional.avg_pool2d(one.images[:, :1], 8) / 2 + 0.5
            torch.testing.assert_close(other.masks, shown, atol=1e-5, rtol=0)
            assert one.to("cpu").masks is not None
    assert len(cached.masks._in_memory) == 3


def test_without_masks_a_batch_has_none(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "a.png")
    data = filled(tmp_path, "", masked_loss=False)
    assert next(one_epoch(TrainingDataset(data, tokenize), EpochSampler(data, 1), 0)).masks is None


def test_masks_are_found_by_name_whatever_their_ending_and_size(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "a.png b.jpg", (96, 64))
    pictures(tmp_path / "masks", "a.jpg", (48, 32))
    pictures(tmp_path / "masks", "b.png b.jpg", (192, 128))
    data = filled(tmp_path, f"conditioning_data_dir = '{tmp_path / 'masks'}'")
    assert [record.mask.name for record in data.records] == ["a.jpg", "b.jpg"]
    assert Masks(data).of([(0, 1), (1, 1)]).shape == (2, 1, 6, 10)


def problems(folder: Path, keys: str, **more: bool) -> list[Problem]:
    with pytest.raises(UserError) as error:
        filled(folder, keys, **more)
    return list(error.value.problems)


def test_missing_and_misshapen_masks_are_told_by_name(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "a.png b.png c.png", (96, 64))
    pictures(tmp_path / "masks", "a.png", (64, 96))
    (tmp_path / "masks" / "c.png").write_bytes(b"no image")
    lines = problems(tmp_path, f"conditioning_data_dir = '{tmp_path / 'masks'}'")
    assert len(lines) == 3
    masks = tmp_path / "masks"
    refusal(lines, "DATA-010", f"mask {masks / 'a.png'}", "64×96", "96×64")
    refusal(lines, "DATA-010", f"mask {masks / 'c.png'}", "not an image")
    refusal(lines, "DATA-009", "1 of 3 images", f"'{masks}'", "(b.png)")
    refusals(problems(tmp_path, f"conditioning_data_dir = '{tmp_path / 'mask'}'"), ("PATH-001", "conditioning_data_dir:", f"'{masks}'"))


def test_masked_loss_without_masks_masks_nothing_and_says_so(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "a.png")
    data = filled(tmp_path, "")
    message(data.findings, "--masked_loss", "nothing is masked")
    assert data.records[0].mask is None
    assert next(one_epoch(TrainingDataset(data, tokenize), EpochSampler(data, 1), 0)).masks is None


def test_masks_without_masked_loss_are_told_and_not_used(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "a.png")
    (tmp_path / "masks").mkdir()
    data = filled(tmp_path, f"conditioning_data_dir = '{tmp_path / 'masks'}'", masked_loss=False)
    assert data.records[0].mask is None
    message(data.findings, "conditioning_data_dir", "--masked_loss")


def test_the_old_form_finds_masks_in_folders_of_the_same_name_or_in_one(tmp_path: Path) -> None:
    for folder in ("images/2_a cat", "images/3_b dog", "masks/2_a cat"):
        pictures(tmp_path / folder, "x.png")
    pictures(tmp_path / "masks", "x.jpg")
    blueprint = from_folders(tmp_path / "images", None, {"resolution": "64"}, str(tmp_path / "masks"))
    masked = with_masks(scan(blueprint), masked_loss=True)
    assert [record.mask for record in masked.records] == [tmp_path / "masks" / "2_a cat" / "x.png", tmp_path / "masks" / "x.jpg"]


def test_a_subsets_loss_weight_multiplies_that_of_regularization(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "a.png")
    pictures(tmp_path / "class", "b.png")
    reg = f"\n[[datasets.subsets]]\nimage_dir = '{tmp_path / 'class'}'\nclass_tokens = 'x'\nis_reg = true\nloss_weight = 3\n"
    text = f"[[datasets.subsets]]\nimage_dir = '{tmp_path / 'images'}'\nclass_tokens = 'x'\nloss_weight = 0.5\n{reg}"
    data = fill(scan(read(tmp_path, SUBSET.format(bucket="false", keys=text))), prior_loss_weight=0.2)
    assert [data.weight(0), data.weight(1)] == pytest.approx([0.5, 0.6])
    batch = next(one_epoch(TrainingDataset(data, tokenize), EpochSampler(data, 1), 0))
    assert sorted(batch.loss_weights.tolist()) == pytest.approx([0.5, 0.6])


def test_a_mask_of_another_size_has_the_shape_of_its_image_up_to_a_pixel(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "a.png", (97, 64))
    keys = f"conditioning_data_dir = '{tmp_path / 'masks'}'"
    for size in ((48, 32), (49, 32), (194, 128)):
        pictures(tmp_path / "masks", "a.png", size)
        assert filled(tmp_path, keys).records[0].mask
    pictures(tmp_path / "masks", "a.png", (50, 31))
    refusals(problems(tmp_path, keys), ("DATA-010", f"mask {tmp_path / 'masks/a.png'}", "50×31", "97×64"))


def test_a_mask_fits_whether_its_name_is_composed_or_not(tmp_path: Path) -> None:
    pictures(tmp_path / "images", unicodedata.normalize("NFD", "강아지.png"))
    pictures(tmp_path / "masks", unicodedata.normalize("NFC", "강아지.png"))
    assert filled(tmp_path, f"conditioning_data_dir = '{tmp_path / 'masks'}'").records[0].mask


def test_masks_that_leave_nothing_are_told_and_refused_where_it_is_all(tmp_path: Path) -> None:
    photos(tmp_path / "img", 3, (96, 64))
    (tmp_path / "masks").mkdir()
    for number, box in enumerate((None, (0, 0, 8, 64), (40, 20, 41, 21))):
        mask = Image.new("L", (96, 64), 0)
        if box:
            mask.paste(1, box)  # as dark as can be, and not black
        mask.save(tmp_path / "masks" / f"{number:02}.png")
    subset = f"image_dir = '{tmp_path / 'img'}'\nclass_tokens = 'x'\nconditioning_data_dir = '{tmp_path / 'masks'}'"
    masked = with_masks(scan(read(tmp_path, f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\n{subset}")), True)
    black, cut_off = with_masks_seen(fill(masked)).findings[-2:]
    message([black], "--masked_loss", "1 image", "entirely black", "00.png")
    message([cut_off], "--masked_loss", "1 image", "outside the crop", "01.png")
    with pytest.raises(UserError) as error:
        with_masks_seen(fill(replace(masked, records=masked.records[:2])))
    refusals(error.value, ("DATA-011", "00.png"), ("DATA-011", "01.png"))
    cropped = replace(masked.records[1].subset, random_crop=True)
    alone = fill(replace(masked, records=(replace(masked.records[1], subset=cropped),), findings=()))
    assert with_masks_seen(alone).findings == ()


def test_images_that_are_clear_throughout_are_told(tmp_path: Path) -> None:
    for name, alpha in (("a", 0), ("b", 1), ("c", None)):
        image = Image.new("RGB", (64, 64), (9, 90, 9))
        if alpha is not None:
            image.putalpha(alpha)
        (tmp_path / "img").mkdir(exist_ok=True)
        image.save(tmp_path / "img" / f"{name}.png")
    subset = f"image_dir = '{tmp_path / 'img'}'\nclass_tokens = 'x'\nalpha_mask = true"
    masked = with_masks(scan(read(tmp_path, f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\n{subset}")), True)
    message(with_masks_seen(fill(masked)).findings[-1:], "1 image", "entirely black", "a.png")
    with refused("DATA-011", "--masked_loss", "1 image", "a.png"):
        with_masks_seen(fill(replace(masked, records=masked.records[:1])))


def test_a_profile_changes_no_mask(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 55).save(tmp_path / "m.png", icc_profile=grey_profile(1))
    assert (brightness(tmp_path / "m.png", (64, 64)) == 55).all()
