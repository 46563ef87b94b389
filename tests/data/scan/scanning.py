"""Folders of images scanned."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.data.scan.records import Scan, scan
from library.errors import Problem, UserError
from tests.data.material import read


def scanned(folder: Path, subset: str, **options: bool) -> Scan:
    text = f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{folder / 'dog'}'\n{subset}\n"
    return scan(read(folder, text), **options)


def faults(folder: Path, subset: str) -> tuple[Problem, ...]:
    with pytest.raises(UserError) as error:
        scanned(folder, subset)
    return error.value.problems


def write(path: Path, text: str | bytes) -> None:
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def one_folder(folder: Path, more: str = "class_tokens = 'x'") -> str:
    return f"[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = '{folder}'\n{more}\n"
