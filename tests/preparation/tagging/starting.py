"""The tagger started on images whose tags are known."""

from pathlib import Path

from PIL import Image

from finetune import tag_images_by_wd14_tagger
from tests.scripts.running import run_in_process

ALWAYS = "o_o, no_humans, some_artist"  # of the tagger's constants over the usual threshold, in the order of its tags


def colour(path: Path, blue: float = 0, green: float = 0, red: float = 0, size: tuple[int, int] = (40, 40)) -> Path:
    """A uniform image whose channels are these shares of 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(round(255 * share) for share in (red, green, blue))).save(path)
    return path


def tag(folder: Path, model: Path, *argv: object) -> int:
    return run_in_process(tag_images_by_wd14_tagger.main, folder, "--model_dir", model, *argv)


def tags(folder: Path, name: str = "blue", ending: str = ".txt") -> str:
    text = (folder / f"{name}{ending}").read_text(encoding="utf-8")
    assert text.endswith("\n") and text.count("\n") == 1
    return text.strip()
