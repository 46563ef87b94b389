"""Guesses at what was meant are near misses, never wild ones."""

from pathlib import Path

import pytest

from library.options.suggest import closest, missing_path


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
    assert missing_path(tmp_path / "modle.safetensors") == f"no such file; did you mean {tmp_path / 'model.safetensors'}?"
    assert missing_path(tmp_path / "model.ckpt") == f"no such file; did you mean {tmp_path / 'model.safetensors'}?"
    assert missing_path(tmp_path / "old.safetensors") == "no such file"
    assert missing_path(tmp_path / "image", folder=True) == f"no such folder; did you mean {tmp_path / 'images'}?"
    where = f"(folder {tmp_path / 'imgs'} does not exist); did you mean {tmp_path / 'images'}?"
    assert missing_path(tmp_path / "imgs" / "deeper" / "a.png") == f"no such file {where}"
