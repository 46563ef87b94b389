"""Files that are far too large to be what they are given as: refused at once. They are sparse and take no space."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from library.data.scan.metadata_file import read_metadata_file
from library.errors import UserError
from library.paths.opening import MOST_TEXT, open_text, read_text
from tests.data.material import photo
from tests.data.scan.scanning import faults
from tests.messages import refusals


def sparse(path: Path, size: int) -> Path:
    with path.open("r+b" if path.exists() else "xb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize(("size", "reason"), [(MOST_TEXT + 1, "at most 4.0 GiB"), (1 << 27, "is no text")])
def test_a_huge_file_is_not_read_as_text(size: int, reason: str, tmp_path: Path) -> None:
    begun = time.process_time()
    with pytest.raises(OSError, match=reason):
        open_text(sparse(tmp_path / "a.json", size))
    with pytest.raises(UserError, match=reason):
        read_metadata_file(tmp_path / "a.json", "in_json")
    assert time.process_time() - begun < 1


def test_a_long_text_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    text = "ab\n" * ((1 << 26) // 3 + 1)
    path.write_text(text, encoding="utf-8", newline="\n")
    assert read_text(path) == text


def test_a_caption_file_of_gigabytes_is_one_line(tmp_path: Path) -> None:
    photo(tmp_path / "dog" / "0.png")
    caption = sparse(tmp_path / "dog" / "0.txt", 5 << 30)
    refusals(faults(tmp_path, "caption_extension = '.txt'"), ("DATA-004", caption, "has 5.0 GiB", "fix or remove it"))
