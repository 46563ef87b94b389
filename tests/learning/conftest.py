"""The small model, as it came and after each lesson; a lesson is taught once a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from examples.quickstart import MODEL
from tests.learning import lessons
from tests.learning.drawing import draw, with_lora

ROOT = Path(__file__).parents[2]
Draw = Callable[..., list[Image.Image]]


@pytest.fixture(scope="session")
def small_model() -> Path:
    """The model that the project ships."""
    return ROOT / MODEL


@pytest.fixture(scope="session")
def learnt(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`learnt(lesson, seed)` is the LoRA file of that lesson."""
    files: dict[tuple, Path] = {}

    def lora(lesson: str, seed: int = 1, rate: str = lessons.RATE) -> Path:
        key = (lesson, seed, rate)
        if key not in files:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("ACCELERATE_USE_CPU", "1")
                files[key] = lessons.teach(small_model, getattr(lessons, lesson), tmp_path_factory.mktemp(lesson), seed, rate)
        return files[key]

    return lora


@pytest.fixture(scope="session")
def drawn(small_model: Path) -> Draw:
    """`drawn(lora, prompt)`: twenty pictures by the small model with that LoRA, or with none; each set is drawn once."""
    known: dict[tuple, list[Image.Image]] = {}

    def pictures(lora: Path | None, prompt: str, multiplier: float = 1.0, seeds: Sequence[int] | None = None) -> list[Image.Image]:
        key = (lora, prompt, multiplier, seeds)
        if key not in known:
            model = with_lora(small_model, lora, multiplier)
            known[key] = draw(model, prompt) if seeds is None else draw(model, prompt, seeds)
        return known[key]

    return pictures
