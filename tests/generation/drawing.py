"""gen_img.py's pictures compared, and what their files record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import gen_img
from tests.generation.test_same_as_samples import pixels
from tests.scripts.running import run_in_process

QUICK = ("--W", "64", "--H", "64", "--steps", "2")
Draw = Callable[..., list[Path]]


def texts(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        return dict(image.text)  # type: ignore[attr-defined]


def facts(path: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads(texts(path)["gen_img"])
    return read


def same(one: Path, other: Path) -> bool:
    return bool((pixels(one) == pixels(other)).all())


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    assert run_in_process(gen_img.main, *argv) == 2
    return capsys.readouterr().err
