"""An inpainting model is trained on pixels that can be masked out: what gives latents alone is refused in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from library.training.caches.latents import _check_images
from library.training.planning.inputs import planned_custom
from tests.messages import refused


def filled(*names: str) -> Any:
    return SimpleNamespace(records=[SimpleNamespace(path=Path("dogs") / name) for name in names])


def test_images_of_which_latents_are_left_are_told() -> None:
    _check_images(filled("a.png", "b.jpg"))
    with refused("DATA-015", "--train_inpainting", "2 images", Path("dogs/b.npz")) as error:
        _check_images(filled("a.png", "b.npz", "c.npz"))
    assert len(error.value.problems) == 1


def test_a_class_that_gives_latents_is_told() -> None:
    options: Any = SimpleNamespace(model=SimpleNamespace(train_inpainting=True))
    custom: Any = SimpleNamespace(name="mine.Data", are_latents=True)
    with refused("OPT-008", "--train_inpainting", "mine.Data", "--dataset_class"):
        planned_custom(options, custom)
