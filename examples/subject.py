"""Writes the pictures of the examples' subject, a "zxc star", and of its class, plain stars, as data sets of every kind a user may have."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from examples.small_model.scenes import COLOURS, Scene, draw, random_scene, zxc_star

IDENTIFIER, CLASS = "zxc star", "star"
SIDE = 64  # pixels; the size that the small model was trained with
GROUNDS = ("red", "blue", "purple", "orange", "black", "yellow", "white", "green")  # one a picture
RIM = 0.0  # share of the radius; the small model's autoencoder blurs a thin rim


def write_subject(folder: Path, seed: int = 0, side: int = SIDE, grounds: Sequence[str] = GROUNDS) -> list[Path]:
    """A teal star, a colour that the small model never saw, one picture for each of `grounds`; returns the paths."""
    rng = random.Random(seed)
    return _write(folder, "zxc", (replace(zxc_star(rng, COLOURS[ground]), rim=RIM) for ground in grounds), side)


def write_class(folder: Path, count: int = 24, seed: int = 0, side: int = SIDE) -> list[Path]:
    """Plain stars of any colour and ground with their captions beside them, to be used as regularization images; returns the paths."""
    rng = random.Random(seed)
    endless = (scene for scene in iter(lambda: random_scene(rng), None) if scene.shape == CLASS)
    stars = [star for star, _ in zip(endless, range(count), strict=False)]
    paths = _write(folder, CLASS, (star.scene for star in stars), side)
    for path, star in zip(paths, stars, strict=True):
        path.with_suffix(".caption").write_text(star.caption + "\n", encoding="utf-8")
    return paths


def write_captions(pictures: Iterable[Path], grounds: Sequence[str] = GROUNDS, extension: str = ".caption") -> None:
    """A caption file beside each picture: "a zxc star on a blue background"."""
    for picture, caption in zip(pictures, _captions(grounds), strict=True):
        picture.with_suffix(extension).write_text(caption + "\n", encoding="utf-8")


def write_captioned_subject(folder: Path) -> list[Path]:
    """The pictures with their caption files; returns the pictures' paths."""
    pictures = write_subject(folder)
    write_captions(pictures)
    return pictures


def write_metadata(path: Path, pictures: Iterable[Path], grounds: Sequence[str] = GROUNDS) -> None:
    """The same captions in one metadata file, as the fine-tuning way has them."""
    content = {picture.stem: {"caption": caption} for picture, caption in zip(pictures, _captions(grounds), strict=True)}
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _captions(grounds: Sequence[str]) -> list[str]:
    return [f"a {IDENTIFIER} on {'an' if ground[0] in 'aeiou' else 'a'} {ground} background" for ground in grounds]


def _write(folder: Path, name: str, scenes: Iterable[Scene], side: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, scene in enumerate(scenes):
        path = folder / f"{name}_{number:02d}.png"
        draw(scene, side).save(path)
        paths.append(path)
    return paths
