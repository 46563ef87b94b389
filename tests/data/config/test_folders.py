"""The old command-line form, and what a run reports if nothing matches it."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.data.config.folders import from_folders
from library.data.scan.records import scan
from library.errors import Problem, UserError
from tests.data.material import photos
from tests.messages import message, refusal, refusals

SIZE = {"resolution": "512,768", "train_batch_size": 2, "shuffle_caption": True, "dataset_repeats": 9}


def faults(*folders: Path, **defaults: object) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as error:
        from_folders(folders[0], folders[1] if len(folders) > 1 else None, SIZE | defaults)
    return error.value.problems


def test_folder_names_hold_repeats_and_class(tmp_path: Path) -> None:
    photos(tmp_path / "train/20_sls frog", 1)
    photos(tmp_path / "train/5_cpc_x rabbit", 2)
    photos(tmp_path / "reg/1_frog", 3)
    photos(tmp_path / "train/notes", 1)
    photos(tmp_path / "train/0_later", 1)
    (tmp_path / "train/.ipynb_checkpoints").mkdir()
    blueprint = from_folders(tmp_path / "train", str(tmp_path / "reg"), SIZE)
    assert blueprint.datasets[0].options.resolution == (512, 768) and blueprint.datasets[0].options.batch_size == 2
    assert [(one.num_repeats, one.class_tokens, one.is_reg, one.shuffle_caption) for one in blueprint.subsets()] == [
        (20, "sls frog", False, True), (5, "cpc_x rabbit", False, True), (1, "frog", True, True),
    ]  # fmt: skip
    message(blueprint.findings, "--train_data_dir:", "'0_later' (0 repeats)", "'notes' (1 image", "<repeats>_<name>")
    assert len(blueprint.findings) == 1
    assert len(scan(blueprint).records) == 6


def test_images_directly_in_the_folder_are_told_with_the_folder_to_make(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 2)
    new = tmp_path / "dog" / "10_shs dog"
    refusals(faults(tmp_path / "dog"), ("DATA-003", "--train_data_dir", f"'{tmp_path / 'dog'}'", "2 images", f"'{new}'"))


def test_image_folder_given_instead_of_its_parent_is_told(tmp_path: Path) -> None:
    photos(tmp_path / "train/10_shs dog", 2)
    lines = faults(tmp_path / "train/10_shs dog")
    refusals(lines, ("DATA-003", "--train_data_dir", f"--train_data_dir {tmp_path / 'train'}"))


def test_folder_without_a_number_is_told_with_its_new_name(tmp_path: Path) -> None:
    photos(tmp_path / "train/dog", 2)
    refusals(faults(tmp_path / "train"), ("DATA-003", "--train_data_dir", "'dog' (2 images", "'dog' to '10_dog'"))


def test_empty_and_missing_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "train/10_dog").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    (tmp_path / "none/readme.txt").write_text("x", encoding="utf-8")
    refusals(faults(tmp_path / "train"), ("DATA-003", "--train_data_dir", "'10_dog' (no images)", "put images"))
    refusals(faults(tmp_path / "none"), ("DATA-003", "--train_data_dir", "1 .txt file"))
    refusals(faults(tmp_path / "trian"), ("PATH-001", "--train_data_dir", f"'{tmp_path / 'train'}'?"))


def test_all_faults_of_the_old_form_come_together_as_flags(tmp_path: Path) -> None:
    refusals(
        faults(tmp_path / "a", tmp_path / "b", resolution=None, keep_tokens=-1),
        ("OPT-006", "--keep_tokens", "is -1", "--keep_tokens 1"),
        ("CFG-011", "--train_data_dir:", "--resolution 512"),
        ("PATH-001", "--train_data_dir:", tmp_path / "a"),
        ("PATH-001", "--reg_data_dir:", tmp_path / "b"),
    )
    lines = faults(tmp_path / "a", resolution="128", enable_bucket=True)
    refusal(lines, "OPT-017", "min_bucket_reso 256", "128×128", "--min_bucket_reso 64")


def test_regularization_folder_without_a_number_is_shown_with_one_repeat(tmp_path: Path) -> None:
    photos(tmp_path / "train/10_shs dog", 1)
    photos(tmp_path / "reg/dog", 2)
    refusals(faults(tmp_path / "train", tmp_path / "reg"), ("DATA-003", "--reg_data_dir", "'dog' to '1_dog'"))


def test_bucket_options_without_buckets_are_told_as_flags(tmp_path: Path) -> None:
    photos(tmp_path / "train/10_shs dog", 1)
    blueprint = from_folders(tmp_path / "train", None, SIZE | {"bucket_no_upscale": True})
    assert len(blueprint.findings) == 1
    message(blueprint.findings, "--train_data_dir: --bucket_no_upscale", "--enable_bucket")


def test_empty_folders_beside_others_are_told_to_be_filled_not_renamed(tmp_path: Path) -> None:
    photos(tmp_path / "train/10_shs dog", 1)
    (tmp_path / "train/5_cat").mkdir()
    (finding,) = from_folders(tmp_path / "train", None, SIZE).findings
    message([finding], "'5_cat' (no images)", "put images")
