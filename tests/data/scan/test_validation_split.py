"""Which images are kept for validation: a function of seed and names, out of all training, and shown as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.data.batching.buckets import fill
from library.data.scan.records import Scan, scan
from library.data.scan.validation_split import split_validation
from tests.data.material import photos, read
from tests.messages import refused


def scanned(folder: Path, *datasets: str, general: str = "") -> Scan:
    text = f"[general]\nresolution = 64\n{general}\n" + "".join(f"[[datasets]]\n{subsets}" for subsets in datasets)
    return scan(read(folder, text))


def subset(folder: Path, keys: str = "") -> str:
    return f"[[datasets.subsets]]\nimage_dir = '{folder}'\nclass_tokens = 'x'\n{keys}\n"


def names(part: Scan) -> set[str]:
    return {record.path.name for record in part.records}


def test_without_a_share_nothing_is_taken(tmp_path: Path) -> None:
    photos(tmp_path / "a", 3)
    whole = scanned(tmp_path, subset(tmp_path / "a"))
    assert split_validation(whole) == (whole, None)


def test_the_share_depends_on_the_seed_and_hardly_on_other_images(tmp_path: Path) -> None:
    photos(tmp_path / "a", 20)
    chosen = {}
    for seed in range(4):
        train, apart = split_validation(
            scanned(tmp_path, subset(tmp_path / "a"), general=f"validation_split = 0.2\nvalidation_seed = {seed}")
        )
        assert len(apart.records) == 4 and names(train) | names(apart) == {f"{n:02}.png" for n in range(20)}
        assert not names(train) & names(apart)
        chosen[seed] = names(apart)
    assert len({frozenset(images) for images in chosen.values()}) > 1
    photos(tmp_path / "a", 22)
    _, apart = split_validation(scanned(tmp_path, subset(tmp_path / "a"), general="validation_split = 0.2\nvalidation_seed = 0"))
    assert len(names(apart) - chosen[0]) <= 2


@pytest.mark.parametrize(("count", "share", "validated"), [(2, 0.01, 1), (2, 0.99, 1), (1, 0.5, 0), (10, 0.25, 3), (4, 0.5, 2)])
def test_at_least_one_is_kept_and_at_least_one_is_trained(tmp_path: Path, count: int, share: float, validated: int) -> None:
    photos(tmp_path / "a", count)
    train, apart = split_validation(scanned(tmp_path, subset(tmp_path / "a", f"validation_split = {share}")))
    assert len(apart.records if apart else ()) == validated and len(train.records) == count - validated


def test_an_image_of_two_datasets_is_trained_in_neither(tmp_path: Path) -> None:
    photos(tmp_path / "a", 8)
    both = scanned(tmp_path, "resolution = 32\n" + subset(tmp_path / "a", "validation_split = 0.25"), subset(tmp_path / "a"))
    train, apart = split_validation(both)
    assert len(apart.records) == 4 and len(names(apart)) == 2 and not names(apart) & names(train)
    assert {record.dataset for record in apart.records} == {0, 1}


def test_validation_shows_images_once_and_as_they_are(tmp_path: Path) -> None:
    photos(tmp_path / "a", 4)
    photos(tmp_path / "class", 4)
    chance = (
        "validation_split = 0.5\nnum_repeats = 3\nshuffle_caption = true\ncaption_dropout_rate = 0.5\ncaption_tag_dropout_rate = 0.5\n"
        "flip_aug = true\ncolor_aug = true\nrandom_crop = true\ntoken_warmup_step = 9\nloss_weight = 0\ncaption_dropout_every_n_epochs = 1"
    )
    reg = subset(tmp_path / "class", "is_reg = true")
    train, apart = split_validation(scanned(tmp_path, subset(tmp_path / "a") + reg, general=chance))
    assert len(apart.records) == 2 and not any(record.subset.is_reg for record in apart.records)
    plain = apart.records[0].subset
    assert not (plain.shuffle_caption or plain.flip_aug or plain.color_aug or plain.random_crop or plain.caption_dropout_every_n_epochs)
    assert (plain.num_repeats, plain.caption_dropout_rate, plain.caption_tag_dropout_rate) == (1, 0, 0)
    assert (plain.token_warmup_step, plain.loss_weight) == (0, 1)
    filled = fill(apart)
    assert filled.figures[0].shown == 2 and filled.figures[0].reg_images == 0
    assert fill(train).figures[0].reg_shown == 6  # 2 images × 3 repeats


def test_a_whole_dataset_may_be_for_validation(tmp_path: Path) -> None:
    photos(tmp_path / "a", 3)
    photos(tmp_path / "b", 2)
    datasets = ("resolution = 32\n" + subset(tmp_path / "b", "validation_split = 1"), subset(tmp_path / "a"))
    train, apart = split_validation(scanned(tmp_path, *datasets))
    assert [fill(part).blueprint.datasets[0].options.resolution for part in (train, apart)] == [(64, 64), (32, 32)]
    assert len(fill(train).buckets) == 1


def test_a_share_that_leaves_nothing_to_train_is_refused(tmp_path: Path) -> None:
    photos(tmp_path / "a", 3)
    with refused("DATA-014", "--validation_split", "smaller share"):
        split_validation(scanned(tmp_path, subset(tmp_path / "a", "validation_split = 1.0")))


def test_an_image_that_is_a_regularization_image_too_stays_one(tmp_path: Path) -> None:
    photos(tmp_path / "a", 4)
    again = subset(tmp_path / "a", "is_reg = true")
    photos(tmp_path / "b", 1)
    reg_of_all = scanned(tmp_path, subset(tmp_path / "a", "validation_split = 0.5"), subset(tmp_path / "b") + again)
    train, apart = split_validation(reg_of_all)
    assert apart is not None and len(names(apart)) == 2
    assert sum(record.subset.is_reg for record in train.records) == 4
