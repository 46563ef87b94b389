"""Suggestions are near misses, never wild guesses."""

from pathlib import Path

import pytest

from library.options.suggest import closest, missing_path
from tests.messages import message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lerning_rate", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("Learning_Rate", "learning_rate"),
        ("max_train_e", "max_train_epochs"),
        ("xyz", None),
    ],
)
def test_a_name_is_taken_for_the_one_that_is_near(name: str, meant: str | None) -> None:
    assert closest(name, ["learning_rate", "max_train_epochs", "max_train_steps_and_more"]) == meant


@pytest.mark.parametrize("sign", ["¥", "₩"])
def test_a_currency_sign_in_a_path_is_named(sign: str, tmp_path: Path) -> None:
    assert f"{sign} is a currency sign" in missing_path(tmp_path / f"C:{sign}pictures{sign}dog")


def test_a_missing_path_names_its_nearest_sibling_or_the_folder_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "images").mkdir()
    message(missing_path(tmp_path / "modle.safetensors"), "file", f"{tmp_path / 'model.safetensors'}?")
    message(missing_path(tmp_path / "model.ckpt"), "file", f"{tmp_path / 'model.safetensors'}?")
    assert "?" not in missing_path(tmp_path / "old.safetensors")
    message(missing_path(tmp_path / "image", folder=True), "folder", f"{tmp_path / 'images'}?")
    message(missing_path(tmp_path / "imgs" / "deeper" / "a.png"), f"folder {tmp_path / 'imgs'}", f"{tmp_path / 'images'}?")
