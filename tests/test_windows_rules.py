"""The tests' own Windows: it refuses what Windows refuses, so that what passes under it says something."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests import windows_rules

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of weights and another one to take its place."""
    save_file({"x": torch.ones(4096)}, tmp_path / "new.safetensors")
    save_file({"x": torch.zeros(4096)}, tmp_path / "old.safetensors")
    return tmp_path / "old.safetensors"


@pytest.mark.parametrize("use", [lambda path: path.open("rb"), load_file, lambda path: safe_open(path, framework="pt").__enter__()])
def test_a_file_in_use_is_neither_replaced_nor_renamed_nor_removed(weights: Path, use) -> None:
    in_use = use(weights)
    folder = weights.parent
    for act in (
        lambda: weights.with_name("new.safetensors").replace(weights),
        lambda: weights.rename(folder / "other.safetensors"),
        weights.unlink,
        lambda: folder.rename(folder.with_name("other")),
    ):
        with pytest.raises(PermissionError, match="Windows"):
            act()
    del in_use
    weights.with_name("new.safetensors").replace(weights)
    weights.unlink()


def test_a_mapped_file_is_not_written_over(weights: Path) -> None:
    mapped = load_file(weights)
    with pytest.raises(OSError, match="mapped"):
        weights.write_bytes(b"")
    assert mapped["x"].sum() == 0


@pytest.mark.parametrize("name", ["a:b", "what?", "con", "AUX.txt", "com1.safetensors", "cat.", "cat ", "a\\b", "nul .png"])
def test_names_that_windows_has_not_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "good").touch()
    for act in ((tmp_path / name).touch, (tmp_path / name).mkdir, lambda: (tmp_path / "good").rename(tmp_path / name)):
        with pytest.raises(OSError, match="Windows"):
            act()


def test_other_names_and_files_that_are_closed_are_none_of_its_business(tmp_path: Path) -> None:
    for name in ("console.txt", ".hidden", "a b.c", "고양이 🐈.png", "auxiliary", "com10"):
        (tmp_path / name).write_text("x", encoding="utf-8")
        (tmp_path / name).replace(tmp_path / "target")
    with (tmp_path / "target").open("rb"), windows_rules.not_here():
        (tmp_path / "target").unlink()
