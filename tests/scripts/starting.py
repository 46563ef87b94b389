"""Starts a training script with options as keyword arguments, and writes the dataset config that most tests need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.scripts.running import run_in_process

CONFIG = """
[[datasets]]
resolution = {resolution}
batch_size = {batch_size}
[[datasets.subsets]]
image_dir = '{images}'
{subset}
"""


def start(main: Callable[[Sequence[str]], None], **options: object) -> int:
    """The exit code of the script `main` with `options` as --name value; True is a switch, None and False leave it out."""
    argv: list[object] = []
    for name, value in options.items():
        if value is not None and value is not False:
            argv += [f"--{name}", *([] if value is True else value if isinstance(value, list) else [value])]
    return run_in_process(main, *argv)


def dataset(path: Path, images: Path, resolution: int = 64, batch_size: int = 2, subset: str = "") -> Path:
    """A dataset config with one subset, of which `subset` holds more keys."""
    path.write_text(CONFIG.format(resolution=resolution, batch_size=batch_size, images=images, subset=subset), encoding="utf-8")
    return path
