"""Says what a small picture shows, from its pixels alone: background, colour, shape and rim; it shares nothing with training or models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from PIL import Image

UNKNOWN = "unknown"
SIDE = 128  # every picture is looked at in this size

# Plain words and the sRGB values that stand for them.
NAMED = {
    "red": (214, 40, 40),
    "orange": (247, 140, 30),
    "yellow": (250, 220, 60),
    "green": (52, 160, 72),
    "blue": (46, 92, 214),
    "purple": (138, 58, 178),
    "black": (28, 28, 30),
    "white": (242, 242, 240),
    "teal": (16, 160, 160),
}
NAMELESS = ((135, 135, 135), (120, 75, 40), (240, 150, 190))  # grey, brown and pink: far enough from all the others to be none of them
SEEN = 0.08  # distance in OKLab (Ottosson 2020) from which on two pixels are of different colour
FARTHEST = 0.12  # distance from a named colour at which a colour has no name any more
UNIFORM = 0.75  # share of the border, and of the silhouette's core, that has to be of one colour
FOREIGN = 0.22  # distance in sRGB (0…1) from all mixtures of ground and core from which on a pixel belongs to something else
PURE = 0.05  # how large what belongs to something else may be, as a share of the silhouette; twice that with a rim and its two edges
SMALLEST, LARGEST = 0.015, 0.60  # area of the silhouette as a share of the picture
ALONE = 0.92  # share of the area that the largest region has to hold
LIKENESS, LEAD = 0.78, 0.02  # intersection over union with the best template, and how far the next shape's has to be behind
RIM = 0.018  # least thickness of a white rim as a share of √area; the subject's is 0.04, and 0.03 when blurred


@dataclass(frozen=True)
class Seen:
    """What a picture shows; "unknown" where it cannot be told. `rim`: a white line around the shape; None where it could not be seen."""

    background: str
    colour: str
    shape: str
    rim: bool | None = None

    @property
    def is_zxc_star(self) -> bool:
        """Whether it is the subject of the learning tests, a teal star with a white rim (on white its rim cannot be seen)."""
        return self.colour == "teal" and self.shape == "star" and (self.rim is True or (self.rim is None and self.background == "white"))

    def shows(self, colour: str, shape: str, background: str) -> bool:
        """Whether it is the plain scene of these three words."""
        return (self.colour, self.shape, self.background) == (colour, shape, background) and not self.rim


NOTHING = Seen(UNKNOWN, UNKNOWN, UNKNOWN)


def judge(picture: Image.Image) -> Seen:
    """Look at a picture of one shape on a plain ground."""
    pixels = _pixels(picture)
    lab = _oklab(pixels)
    ground = _border_colour(lab)
    if ground is None:
        return NOTHING
    background = _name(ground)
    silhouette, core = _silhouette(lab, ground)
    if silhouette is None:
        return Seen(background, UNKNOWN, UNKNOWN)
    rim = _has_rim(pixels, lab, silhouette, ground, core)
    if not _is_pure(pixels, lab, silhouette, ground, core, bool(rim)):
        return Seen(background, UNKNOWN, UNKNOWN)
    return Seen(background, _name(core), _shape(silhouette), rim)


def named(picture: Image.Image, colour: str) -> np.ndarray:
    """[H,W] of bool: the pixels of this named colour, nearer to it than to any other named or nameless one."""
    lab = _oklab(np.asarray(picture.convert("RGB"), np.float32) / 255)
    others = [np.array(rgb) for name, rgb in NAMED.items() if name != colour] + [np.array(rgb) for rgb in NAMELESS]
    away = np.linalg.norm(lab - _oklab(np.array(NAMED[colour]) / 255), axis=-1)
    nearest = np.min([np.linalg.norm(lab - _oklab(other / 255), axis=-1) for other in others], axis=0)
    return away < np.minimum(nearest, FARTHEST)


def changed(one: Image.Image, other: Image.Image) -> np.ndarray:
    """[H,W] of bool: the pixels in which two pictures of one size are of different colour."""
    labs = [_oklab(np.asarray(picture.convert("RGB"), np.float32) / 255) for picture in (one, other)]
    return ~_near(labs[0], labs[1], SEEN)


def _pixels(picture: Image.Image) -> np.ndarray:
    """[SIDE,SIDE,3] in 0…1, a little smoothed, so that noise of single pixels does not count."""
    pixels = np.asarray(picture.convert("RGB"), np.float32) / 255
    larger = max(pixels.shape[:2]) > SIDE
    pixels = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA if larger else cv2.INTER_CUBIC)
    return np.clip(cv2.GaussianBlur(pixels, (0, 0), 1.2), 0, 1)


def _oklab(pixels: np.ndarray) -> np.ndarray:
    """sRGB in 0…1 to OKLab, in which distances are alike to the eye (Ottosson 2020)."""
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    to_cones = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                         [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
    to_lab = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                       [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip
    return np.cbrt(linear @ to_cones.T) @ to_lab.T


def _border_colour(lab: np.ndarray) -> np.ndarray | None:
    """The colour that most of the border has; None where there is no such colour."""
    edge = SIDE // 16
    border = np.ones((SIDE, SIDE), bool)
    border[edge:-edge, edge:-edge] = False
    colour = np.median(lab[border], axis=0)
    return colour if _share(_near(lab, colour, SEEN), border) >= UNIFORM else None


def _silhouette(lab: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The one region that differs from the ground, and the colour of its core; None where there is none or more than one."""
    region = _largest(~_near(lab, ground, SEEN))
    if region is None:
        return None, ground
    core = np.median(lab[_shrunk(region)], axis=0)
    if _distance(core, ground) < SEEN:
        return None, ground
    return _largest(~_near(lab, ground, _distance(core, ground) / 2)), core


def _largest(mask: np.ndarray) -> np.ndarray | None:
    """The largest connected region, if it is of a fair size and all others are specks beside it."""
    count, labels, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 2:
        return None
    areas = figures[1:, cv2.CC_STAT_AREA]
    largest = int(areas.argmax())
    if areas[largest] < ALONE * areas.sum() or not SMALLEST < areas[largest] / mask.size < LARGEST:
        return None
    return labels == largest + 1


def _shrunk(mask: np.ndarray) -> np.ndarray:
    """The inner part of a region, up to half of it: where its colour is undisturbed by the edge."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return depth >= min(np.median(depth[mask]), 4.0) if mask.any() else mask


def _is_pure(pixels: np.ndarray, lab: np.ndarray, silhouette: np.ndarray, ground: np.ndarray, core: np.ndarray, rim: bool) -> bool:
    """Whether the picture has no third colour but a rim's: each pixel is ground or core or, at an edge, between them."""
    inside = _near(lab, core, _distance(ground, core) / 2) & silhouette if rim else silhouette
    if _share(_near(lab, core, FARTHEST), _shrunk(inside)) < UNIFORM:
        return False
    ends = [_as_pixels(pixels, lab, ground), _as_pixels(pixels, lab, core)]
    apart = _to_segment(pixels, *ends)
    if rim:
        white = np.array(NAMED["white"]) / 255
        shares, residual = _mixture(pixels, *ends, white)
        between = (shares.min(axis=-1) >= 0) & (shares.sum(axis=-1) <= 1)
        sides = [apart, *(_to_segment(pixels, end, white) for end in ends)]
        apart = np.where(between, residual, np.min(sides, axis=0))
    return bool((apart > FOREIGN).sum() <= PURE * (1 + rim) * silhouette.sum())


def _to_segment(pixels: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distance of each pixel from the nearest mixture of two colours."""
    share = np.clip((pixels - one) @ (other - one) / np.sum((other - one) ** 2), 0, 1)
    return np.linalg.norm(pixels - (one + share[..., None] * (other - one)), axis=-1)


def _mixture(pixels: np.ndarray, ground: np.ndarray, core: np.ndarray, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares [H,W,2] of core and white (the rest is ground) that come nearest to each pixel, and how far off they are."""
    axes = np.stack([core - ground, white - ground])
    shares = (pixels - ground) @ np.linalg.pinv(axes)
    return shares, np.linalg.norm(pixels - ground - shares @ axes, axis=-1)


def _as_pixels(pixels: np.ndarray, lab: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The sRGB value of an OKLab colour of the picture: the mean of the pixels nearest to it."""
    nearest = np.argsort(np.linalg.norm(lab - colour, axis=-1), axis=None)[:20]
    return pixels.reshape(-1, 3)[nearest].mean(axis=0)


def _has_rim(pixels: np.ndarray, lab: np.ndarray, silhouette: np.ndarray, ground: np.ndarray, core: np.ndarray) -> bool | None:
    """Whether white lies all around between core and ground.

    Each pixel at the edge is taken as a mixture of ground, core and white; the white shares, summed up along the outline, are
    the rim's thickness, however blurred it is.
    """
    white = np.array(NAMED["white"]) / 255
    ends = [_as_pixels(pixels, lab, ground), _as_pixels(pixels, lab, core)]
    if _to_segment(white, *ends) < 0.2:
        return None
    shares, residual = _mixture(pixels, *ends, white)
    shares = np.where(residual < FOREIGN / 2, np.clip(shares[..., 1], -1, 1), 0)
    size = math.sqrt(silhouette.sum())
    outside = cv2.distanceTransform((~silhouette).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(silhouette.astype(np.uint8), cv2.DIST_L2, 5)
    band = (outside < 0.06 * size) & (inside < 0.2 * size)
    rows, columns = np.nonzero(silhouette)
    angle = np.arctan2(*(np.indices(silhouette.shape) - np.array([rows.mean(), columns.mean()])[:, None, None]))
    sectors = ((angle + math.pi) / (2 * math.pi) * 10).astype(int) % 10
    outline = silhouette & (inside <= 1.5)
    thick = [shares[band & (sectors == s)].sum() / max(outline[sectors == s].sum(), 1) for s in range(10)]
    return bool(np.sum(np.array(thick) > RIM * size / 2) >= 9 and np.mean(thick) > RIM * size)


def _shape(silhouette: np.ndarray) -> str:
    """The shape whose template, turned and scaled, covers the silhouette best."""
    names, templates = _templates()
    likeness = _overlap(templates, _normalised(silhouette).ravel())
    best = {name: float(likeness[[other == name for other in names]].max()) for name in dict.fromkeys(names)}
    first, second = sorted(best, key=best.__getitem__, reverse=True)[:2]
    return first if best[first] >= LIKENESS and best[first] - best[second] >= LEAD else UNKNOWN


def _overlap(templates: np.ndarray, silhouette: np.ndarray) -> np.ndarray:
    common = templates @ silhouette
    return common / (templates.sum(axis=1) + silhouette.sum() - common)


FRAME = 48  # pixels; the silhouette is scaled so that √area is FRAME / 2.1


def _normalised(mask: np.ndarray) -> np.ndarray:
    """[FRAME,FRAME]: the mask moved to the middle and brought to one area."""
    rows, columns = np.nonzero(mask)
    scale = FRAME / 2.1 / math.sqrt(len(rows))
    middle = FRAME / 2 - 0.5
    move = np.array([[scale, 0, middle - scale * columns.mean()], [0, scale, middle - scale * rows.mean()]])
    return cv2.warpAffine(mask.astype(np.float32), move, (FRAME, FRAME), flags=cv2.INTER_LINEAR)


@cache
def _templates() -> tuple[list[str], np.ndarray]:
    """Names, and normalised masks [n, FRAME²], of every shape in steps of 5°, stars and crosses in several slendernesses."""
    kinds = [("circle", _ring(72), 5), ("square", _ring(4), 90), ("triangle", _ring(3), 120)]
    kinds += [("star", _zigzag(inner), 72) for inner in (0.36, 0.42, 0.5)]
    kinds += [("cross", _plus(arm), 90) for arm in (0.27, 0.34, 0.41)]
    names, masks = [], []
    for name, corners, symmetry in kinds:
        for turn in range(0, symmetry, 5):
            angle = math.radians(turn)
            turned = corners @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            canvas = np.zeros((256, 256), np.uint8)
            cv2.fillPoly(canvas, [np.round(128 + 100 * turned).astype(np.int32)], 1)
            names.append(name)
            masks.append(_normalised(canvas.astype(bool)).ravel())
    return names, np.stack(masks)


def _ring(corners: int) -> np.ndarray:
    angles = 2 * math.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _zigzag(inner: float) -> np.ndarray:
    return _ring(10) * np.where(np.arange(10) % 2, inner, 1.0)[:, None]


def _plus(arm: float) -> np.ndarray:
    quarter = np.array([(arm, -arm), (1, -arm), (1, arm)])
    return np.concatenate([quarter @ np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))])


def _name(colour: np.ndarray) -> str:
    """The nearest named colour; "unknown" where that is far away or a nameless one is nearer."""
    distances = {name: _distance(_oklab(np.array(rgb) / 255), colour) for name, rgb in NAMED.items()}
    nearest = min(distances, key=distances.__getitem__)
    other = min(_distance(_oklab(np.array(rgb) / 255), colour) for rgb in NAMELESS)
    return nearest if distances[nearest] <= min(FARTHEST, other) else UNKNOWN


def _near(lab: np.ndarray, colour: np.ndarray, within: float) -> np.ndarray:
    return np.linalg.norm(lab - colour, axis=-1) < within


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other))


def _share(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part[whole].mean()) if whole.any() else 0.0
