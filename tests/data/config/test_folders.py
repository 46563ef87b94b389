"""The old command-line form, and what is said when nothing fits it."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.data.config.folders import from_folders
from library.data.scan.records import scan
from library.errors import UserError
from tests.data.material import photos

SIZE = {"resolution": "512,768", "train_batch_size": 2, "shuffle_caption": True, "dataset_repeats": 9}


def refused(*folders: Path, **defaults: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        from_folders(folders[0], folders[1] if len(folders) > 1 else None, SIZE | defaults)
    return list(caught.value.problems)


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
    (finding,) = blueprint.findings
    assert finding.startswith(
        "--train_data_dir: skipped: '0_later' (0 repeats), 'notes' (1 image, but no repeats in its name); rename them to <repeats>_<name>"
    )
    assert len(scan(blueprint).records) == 6


def test_images_directly_in_the_folder_are_told_with_the_folder_to_make(tmp_path: Path) -> None:
    photos(tmp_path / "dog", 2)
    (line,) = refused(tmp_path / "dog")
    assert "itself contains 2 images" in line and f"create a folder '{tmp_path / 'dog' / '10_shs dog'}'" in line


def test_image_folder_given_instead_of_its_parent_is_told(tmp_path: Path) -> None:
    photos(tmp_path / "train/10_shs dog", 2)
    (line,) = refused(tmp_path / "train/10_shs dog")
    assert f"name the folder above it: --train_data_dir '{tmp_path / 'train'}'" in line


def test_folder_without_a_number_is_told_with_its_new_name(tmp_path: Path) -> None:
    photos(tmp_path / "train/dog", 2)
    (line,) = refused(tmp_path / "train")
    assert "only 'dog' (2 images, but no repeats in its name); rename, e.g. 'dog' to '10_dog'" in line


def test_empty_and_missing_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "train/10_dog").mkdir(parents=True)
    (tmp_path / "none").mkdir()
    (tmp_path / "none/readme.txt").write_text("x", encoding="utf-8")
    assert "'10_dog' (no images); put images" in refused(tmp_path / "train")[0]
    assert "it contains 1 .txt file" in refused(tmp_path / "none")[0]
    assert f"does not exist; did you mean '{tmp_path / 'train'}'?" in refused(tmp_path / "trian")[0]


def test_all_faults_of_the_old_form_come_together_as_flags(tmp_path: Path) -> None:
    lines = refused(tmp_path / "a", tmp_path / "b", resolution=None, keep_tokens=-1)
    assert [line.split(":")[0].split(" is ")[0] for line in lines] == [
        "--keep_tokens",
        "--train_data_dir",
        "--train_data_dir",
        "--reg_data_dir",
    ]
    assert "add --resolution 512" in lines[1] and "e.g. --keep_tokens 1" in lines[0]
    (line,) = [one for one in refused(tmp_path / "a", resolution="128", enable_bucket=True) if "min_bucket_reso" in one]
    assert line.endswith("set --min_bucket_reso 64")


def test_regularization_folder_without_a_number_is_shown_with_one_repeat(tmp_path: Path) -> None:
    photos(tmp_path / "train/10_shs dog", 1)
    photos(tmp_path / "reg/dog", 2)
    (line,) = refused(tmp_path / "train", tmp_path / "reg")
    assert line.endswith("rename, e.g. 'dog' to '1_dog'")


def test_bucket_options_without_buckets_are_told_as_flags(tmp_path: Path) -> None:
    photos(tmp_path / "train/10_shs dog", 1)
    blueprint = from_folders(tmp_path / "train", None, SIZE | {"bucket_no_upscale": True})
    assert blueprint.findings == ("--train_data_dir: --bucket_no_upscale has no effect without buckets; set --enable_bucket, or remove it",)


def test_empty_folders_beside_others_are_told_to_be_filled_not_renamed(tmp_path: Path) -> None:
    photos(tmp_path / "train/10_shs dog", 1)
    (tmp_path / "train/5_cat").mkdir()
    (finding,) = from_folders(tmp_path / "train", None, SIZE).findings
    assert "skipped: '5_cat' (no images); put images" in finding
