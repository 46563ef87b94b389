"""The lines that refuse a config, and the smallest whole config."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.errors import Problem, UserError
from tests.data.material import BOTH, read

ONE = "[[datasets]]\n{}\n[[datasets.subsets]]\nimage_dir = 'HERE/dog'\nclass_tokens = 'x'\n{}\n"


def faults(folder: Path, text: str, defaults: dict[str, object] | None = None, forms: frozenset[str] = BOTH) -> list[Problem]:
    with pytest.raises(UserError) as error:
        read(folder, text.replace("HERE", folder.as_posix()), defaults, forms)
    assert all("\n" not in line for line in error.value.problems)
    return list(error.value.problems)
