"""Pictures with a mask over their shape and what to ask for in its place, and masked pictures of a new subject to train a LoRA with.

    python -m examples.small_model.holes output/holes

writes `0.png` and `0_mask.png` and so on, tells the prompt of each, and writes `stars.toml` with the stars and their masks beside it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from examples.small_model.scenes import COLOURS, Scene, draw, scene_anywhere, zxc_star
from examples.subject import GROUNDS, IDENTIFIER, RIM, SIDE

GROWN = 1.15  # the mask's radius as a multiple of the shape's: a user's brush goes a little beyond what it covers


@dataclass(frozen=True)
class Hole:
    """A picture, the mask of its shape, and what is asked for in its place."""

    picture: Image.Image
    mask: Image.Image  # "L", white where it is filled in
    shape: np.ndarray  # [H,W] of bool: where the shape is
    prompt: str
    colour: str  # that the prompt asks for and the picture does not show

    @property
    def outside(self) -> np.ndarray:
        """[H,W] of bool: what has to stay."""
        return np.asarray(self.mask) < 128


def hole(seed: int) -> Hole:
    """A random scene in a colour other than its caption's, which is the prompt: it says what is wanted, the mask alone says where."""
    rng = random.Random(f"hole {seed}")
    asked = scene_anywhere(rng)
    return hole_in(asked.scene, asked.caption, asked.colour, rng.choice(sorted(set(COLOURS) - {asked.colour, asked.background})))


def hole_in(scene: Scene, prompt: str, colour: str, shown: str) -> Hole:
    """The scene in the colour `shown`, its shape under a mask."""
    return Hole(draw(replace(scene, colour=COLOURS[shown]), SIDE), mask_of(scene), np.asarray(mask_of(scene, 1)) >= 128, prompt, colour)


def mask_of(scene: Scene, grown: float = GROWN) -> Image.Image:
    """The mask ("L") of a scene's shape: white where it is, and around it as far as it is `grown`."""
    white = replace(scene, colour=(255, 255, 255), background=(0, 0, 0), radius=scene.radius * grown, rim=0.0)
    return draw(white, SIDE).convert("L")


def write_masked_subject(folder: Path, seed: int = 0) -> str:
    """The subject of the examples, a teal star, in `folder`/stars with captions and, in `folder`/masks, masks; returns a dataset config."""
    rng = random.Random(seed)
    for name in ("stars", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, ground in enumerate(GROUNDS):
        scene = replace(zxc_star(rng, COLOURS[ground]), rim=RIM)
        draw(scene, SIDE).save(folder / "stars" / f"{number:02d}.png")
        mask_of(scene).save(folder / "masks" / f"{number:02d}.png")
        caption = f"a {IDENTIFIER} on {'an' if ground[0] in 'aeiou' else 'a'} {ground} background"
        (folder / "stars" / f"{number:02d}.caption").write_text(caption + "\n", encoding="utf-8")
    return (
        f"[general]\nresolution = {SIDE}\nbatch_size = 4\n\n[[datasets]]\n[[datasets.subsets]]\n"
        f"image_dir = '{(folder / 'stars').as_posix()}'\nconditioning_data_dir = '{(folder / 'masks').as_posix()}'\n"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pictures, their masks and the stars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where all files are written")
    parser.add_argument("--count", type=int, default=4, help="how many pictures")
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "stars.toml").write_text(write_masked_subject(args.folder), encoding="utf-8")
    for seed in range(args.count):
        one = hole(seed)
        one.picture.save(args.folder / f"{seed}.png")
        one.mask.save(args.folder / f"{seed}_mask.png")
        print(f"{args.folder / str(seed)}.png  {one.prompt}")


if __name__ == "__main__":
    main()
