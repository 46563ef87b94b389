"""PNG files with generation parameters in the form that web UIs read and write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from library.files import atomic_write

if TYPE_CHECKING:
    from PIL.Image import Image

PARAMETERS = "parameters"  # key of the text that web UIs read


def used_settings(steps: int, sampler: str, guidance: float, seed: int, size: tuple[int, int]) -> dict[str, object]:
    """Settings of a generated image, with the names that web UIs use and in their order."""
    width, height = size
    return {"Steps": steps, "Sampler": sampler, "CFG scale": f"{guidance:g}", "Seed": seed, "Size": f"{width}x{height}"}


def description(prompt: str, negative: str, used: Mapping[str, object]) -> str:
    """The text for `PARAMETERS`: prompt, negative prompt, and the settings on the last line."""
    lines = [prompt, *([f"Negative prompt: {negative}"] if negative else [])]
    return "\n".join([*lines, ", ".join(f"{key}: {value}" for key, value in used.items())])


def write_png(path: Path, image: Image, texts: Mapping[str, str]) -> None:
    """Write the image with its texts atomically. Raises OSError."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)
