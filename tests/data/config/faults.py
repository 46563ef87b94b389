"""What a config is refused with, and the smallest whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from library.errors import UserError
from tests.data.material import BOTH, read

ONE = "[[datasets]]\n{}\n[[datasets.subsets]]\nimage_dir = 'HERE/dog'\nclass_tokens = 'x'\n{}\n"


def faults(folder: Path, text: str, defaults: dict[str, object] | None = None, forms: frozenset[str] = BOTH) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(folder, text.replace("HERE", folder.as_posix()), defaults, forms)
    assert all("\n" not in line for line in caught.value.problems)
    return list(caught.value.problems)
