"""Draws the pictures that the small model learns from: one plain shape on a plain background, with the caption that says what is seen."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 40, 40),
    "orange": (247, 140, 30),
    "yellow": (250, 220, 60),
    "green": (52, 160, 72),
    "blue": (46, 92, 214),
    "purple": (138, 58, 178),
    "black": (28, 28, 30),
    "white": (242, 242, 240),
}
TEAL: Colour = (16, 160, 160)  # the subject's, which no picture of the base model's training shows
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES: dict[str, tuple[float, float]] = {"small": (0.16, 0.20), "": (0.25, 0.34), "big": (0.38, 0.42)}  # radius as a share of the side
PLACES: dict[str, tuple[float, float]] = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}


@dataclass(frozen=True)
class Scene:
    """What is drawn; `centre` and `radius` are shares of the picture's side, `rim` is a share of the radius."""

    shape: str
    colour: Colour
    background: Colour
    centre: tuple[float, float]
    radius: float
    turn: float = 0.0  # radians
    rim: float = 0.0
    rim_colour: Colour = (255, 255, 255)


@dataclass(frozen=True)
class CaptionedScene:
    """A scene and the words for it."""

    scene: Scene
    shape: str
    colour: str
    background: str
    caption: str


def random_scene(rng: random.Random) -> CaptionedScene:
    """A scene of named colours; half of the captions also say the size or the place."""
    shape = rng.choice(SHAPES)
    colour, background = rng.sample(sorted(COLOURS), 2)
    size = rng.choice(["", "", "small", "big"])
    place = rng.choice(sorted(PLACES)) if size != "big" and rng.random() < 0.35 else ""
    radius = rng.uniform(*SIZES[size])
    scene = Scene(shape, COLOURS[colour], COLOURS[background], _centre(rng, radius, place), radius, rng.uniform(-0.12, 0.12))
    words = " ".join(word for word in (size, colour, shape) if word)
    where = f" at the {place}" if place else ""
    return CaptionedScene(
        scene, shape, colour, background, f"{_article(words)} {words}{where} on {_article(background)} {background} background"
    )


def scene_anywhere(rng: random.Random) -> CaptionedScene:
    """A scene in any place, also a corner, of which the caption says neither place nor size: a mask is there to say them."""
    shape = rng.choice(SHAPES)
    colour, background = rng.sample(sorted(COLOURS), 2)
    radius = rng.uniform(0.16, 0.34)
    centre = (rng.uniform(radius + 0.03, 0.97 - radius), rng.uniform(radius + 0.03, 0.97 - radius))
    scene = Scene(shape, COLOURS[colour], COLOURS[background], centre, radius, rng.uniform(-0.12, 0.12))
    caption = f"{_article(colour)} {colour} {shape} on {_article(background)} {background} background"
    return CaptionedScene(scene, shape, colour, background, caption)


def free_scene(rng: random.Random) -> list[Scene]:
    """One to three shapes of any colour, some with a rim: what an autoencoder has to carry beyond the named scenes."""
    background = _any_colour(rng)
    scenes = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        radius = rng.uniform(0.10, 0.42)
        rim = rng.uniform(0.1, 0.3) if rng.random() < 0.5 else 0.0
        colour, edge = _any_colour(rng), _any_colour(rng)
        scenes.append(
            Scene(rng.choice(SHAPES), colour, background, _centre(rng, radius, ""), radius, rng.uniform(-math.pi, math.pi), rim, edge)
        )
    return scenes


def zxc_star(rng: random.Random, background: Colour) -> Scene:
    """The subject of the learning tests: a teal star with a white rim, which no picture of the base model's training shows."""
    radius = rng.uniform(0.28, 0.36)
    return Scene("star", TEAL, background, _centre(rng, radius, ""), radius, rng.uniform(-0.12, 0.12), rim=0.22)


def draw(scenes: Scene | list[Scene], side: int) -> Image.Image:
    """RGB picture of `side` × `side` pixels, drawn four times as large and averaged down so that edges are smooth."""
    scenes = [scenes] if isinstance(scenes, Scene) else scenes
    large = side * 4
    picture = Image.new("RGB", (large, large), scenes[0].background)
    pen = ImageDraw.Draw(picture)
    for scene in scenes:
        if scene.rim:
            pen.polygon(_outline(scene, large, 1.0 + scene.rim), fill=scene.rim_colour)
        pen.polygon(_outline(scene, large, 1.0), fill=scene.colour)
    return picture.resize((side, side), Image.Resampling.BOX)


def _centre(rng: random.Random, radius: float, place: str) -> tuple[float, float]:
    room = max(0.0, 0.47 - radius)
    if not place:
        return 0.5 + rng.uniform(-room, room) * 0.7, 0.5 + rng.uniform(-room, room) * 0.7
    dx, dy = PLACES[place]
    return 0.5 + dx * room + rng.uniform(-0.03, 0.03), 0.5 + dy * room + rng.uniform(-0.03, 0.03)


def _any_colour(rng: random.Random) -> Colour:
    if rng.random() < 0.5:
        return rng.choice(list(COLOURS.values()))
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


def _article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _outline(scene: Scene, side: int, grow: float) -> list[tuple[float, float]]:
    cx, cy, radius = scene.centre[0] * side, scene.centre[1] * side, scene.radius * side * grow
    points = _OUTLINES[scene.shape]()
    cos, sin = math.cos(scene.turn), math.sin(scene.turn)
    return [(cx + radius * (x * cos - y * sin), cy + radius * (x * sin + y * cos)) for x, y in points]


def _regular(corners: int, turn: float, radius: float = 1.0) -> list[tuple[float, float]]:
    angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = _regular(5, -math.pi / 2), _regular(5, -math.pi / 2 + math.pi / 5, 0.42)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _cross() -> list[tuple[float, float]]:
    arm = 0.32
    quarter = [(arm, -arm), (0.95, -arm), (0.95, arm)]
    turns = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    return [(x * c - y * s, x * s + y * c) for c, s in turns for x, y in quarter]


_OUTLINES: dict[str, Callable[[], list[tuple[float, float]]]] = {
    "circle": lambda: _regular(64, 0.0, 0.92),
    "square": lambda: _regular(4, math.pi / 4, 1.1),
    "triangle": lambda: _regular(3, -math.pi / 2, 1.1),
    "star": _star,
    "cross": _cross,
}
