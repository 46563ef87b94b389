"""The small model, as it came and after each lesson; a lesson is taught once a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from examples.quickstart import MODEL
from tests.learning import lessons
from tests.learning.drawing import draw, with_lesson

ROOT = Path(__file__).parents[2]
Draw = Callable[..., list[Image.Image]]


@pytest.fixture(scope="session")
def small_model() -> Path:
    """The model that the project ships."""
    return ROOT / MODEL


@pytest.fixture(scope="session")
def learnt(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`learnt(lesson, seed, script=…)` is the file that the script wrote after that lesson: a LoRA, a model or a word."""
    files: dict[tuple, Path] = {}

    def file_of(lesson: str, seed: int = 1, script: lessons.Script = lessons.LORA) -> Path:
        key = (lesson, seed, script)
        if key not in files:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ACCELERATE_USE_CPU", "1")
                folder = tmp_path_factory.mktemp(lesson)
                files[key] = lessons.teach(small_model, script, getattr(lessons, lesson), folder, seed)
        return files[key]

    return file_of


@pytest.fixture(scope="session")
def drawn(small_model: Path) -> Draw:
    """`drawn(file, prompt)`: twenty pictures by the small model with what a lesson wrote, or with nothing; each set is drawn once."""
    known: dict[tuple, list[Image.Image]] = {}

    def pictures(file: Path | None, prompt: str, multiplier: float = 1.0, seeds: Sequence[int] | None = None) -> list[Image.Image]:
        key = (file, prompt, multiplier, seeds)
        if key not in known:
            model = with_lesson(small_model, file, multiplier)
            known[key] = draw(model, prompt) if seeds is None else draw(model, prompt, seeds)
        return known[key]

    return pictures
