"""A small captioned photo set in several aspect ratios, cut from the photographs that scikit-image ships (public domain or CC0)."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

# file in skimage/data, box as shares of the sides (left, top, right, bottom), caption
PHOTOGRAPHS = (
    ("chelsea.png", (0.0, 0.0, 1.0, 1.0), "a photo of a tabby cat, looking at the camera"),
    ("chelsea.png", (0.18, 0.0, 0.85, 1.0), "a photo of a tabby cat, close up"),
    ("chelsea.png", (0.3, 0.1, 0.75, 0.95), "a photo of a tabby cat, portrait"),
    ("astronaut.png", (0.0, 0.0, 1.0, 1.0), "a photo of a woman, astronaut, orange space suit, flag"),
    ("astronaut.png", (0.2, 0.0, 0.7, 0.75), "a photo of a woman, smiling, portrait"),
    ("coffee.png", (0.0, 0.0, 1.0, 1.0), "a photo of a cup of coffee, spoon, wooden table"),
    ("coffee.png", (0.1, 0.05, 0.7, 0.95), "a photo of a cup of coffee, from above"),
    ("rocket.jpg", (0.0, 0.0, 1.0, 1.0), "a photo of a rocket, night, lights"),
    ("rocket.jpg", (0.3, 0.0, 0.65, 1.0), "a photo of a rocket, standing upright, night"),
)


def write_photos(folder: Path) -> list[Path]:
    """Write the photographs as JPEG, each with a `.caption` file beside it, and return their paths."""
    import skimage

    source = Path(skimage.__file__).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, (name, box, caption) in enumerate(PHOTOGRAPHS):
        with Image.open(source / name) as whole:
            width, height = whole.size
            part = whole.convert("RGB").crop((round(box[0] * width), round(box[1] * height), round(box[2] * width), round(box[3] * height)))
        path = folder / f"{number:02d}_{Path(name).stem}.jpg"
        part.save(path, quality=92)
        path.with_suffix(".caption").write_text(caption + "\n", encoding="utf-8")
        written.append(path)
    return written
