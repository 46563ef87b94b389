"""From an image file to the pixels of one showing, float32 [3,H,W] in −1..1: upright, resized, cropped, flipped, augmented."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np

from library.data.batching.buckets import Placement
from library.data.config.blueprint import Size, SubsetOptions
from library.data.pixels.decode import WHITE, decode
from library.data.scan.records import ImageRecord
from library.errors import UserError, coded, first_line
from library.parsing.whole import whole_number
from library.seeds import python_rng

Pixels = np.ndarray  # uint8 [H,W,3], RGB

BACKGROUND = WHITE  # behind transparent pixels
_COLOUR_RATE = 1 / 3  # share of the showings of a color_aug subset
_HUE_SHIFT = 8  # maximum, of the 180 hues of OpenCV's HSV
_GAMMA = (0.95, 1.05)


def load_image(record: ImageRecord, placement: Placement, seed: int | None) -> np.ndarray:
    """The pixels of the showing with this seed, float32 [3,H,W] in −1..1; with None the plain centre crop, unflipped.

    Raises UserError with the name of an unreadable file.
    """
    try:
        resized, corner = part_shown(record, placement, seed)
        way = record.subset.resize_interpolation
        # Decoding a JPEG at half its size resizes it twice, which the default way tolerates; an explicit resize_interpolation does not.
        pixels = crop(resize(_read(record, None if way else resized), resized, way), placement.bucket, corner)
    except UserError:
        raise
    except Exception as fault:  # PIL and OpenCV raise many kinds of exceptions for damaged files
        raise UserError(coded("DATA-001", f"image {record.path}: cannot be read ({first_line(fault)}); remove or replace it")) from None
    if seed is not None:
        if flipped(record.subset, seed):
            pixels = pixels[:, ::-1]
        if record.subset.color_aug:
            pixels = _colour(pixels, seed)
    values = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    values /= 127.5
    values -= 1.0
    return values


def part_shown(record: ImageRecord, placement: Placement, seed: int | None) -> tuple[Size, tuple[int, int]]:
    """What the showing with this seed shows: the size after resizing, and left and top of the crop of `placement.bucket` in it."""
    around = record.subset.face_crop_aug_range
    if around and seed is not None and (face := face_box(record.path)):
        return _around_face(record, placement.bucket, face, around, python_rng(seed, "crop"))
    return placement.resized, crop_corner(record.subset, placement, seed)


def flipped(subset: SubsetOptions, seed: int) -> bool:
    """Whether the showing with this seed is mirrored left to right."""
    return subset.flip_aug and python_rng(seed, "flip").random() < 0.5


def crop_corner(subset: SubsetOptions, placement: Placement, seed: int | None) -> tuple[int, int]:
    """Left and top of the crop in the resized image: centred, or random by seed with random_crop."""
    spare = [resized - side for resized, side in zip(placement.resized, placement.bucket, strict=True)]
    if subset.random_crop and seed is not None:
        rng = python_rng(seed, "crop")
        return rng.randint(0, spare[0]), rng.randint(0, spare[1])
    return spare[0] // 2, spare[1] // 2


def read_rgb(path: Path, cover: Size | None = None, background: tuple[int, int, int] = BACKGROUND) -> Pixels:
    """The first frame upright in sRGB as uint8 [H,W,3]: any colour mode, transparency on `background`, 16 bits scaled to 8.

    `cover` (width, height) allows decoding a JPEG at ½, ¼ or ⅛ if the result is still at least that large.
    """
    return np.asarray(decode(path, cover).on(background))


def brightness(path: Path, cover: tuple[int, int]) -> np.ndarray:
    """Grey values of a mask image, uint8 [H,W]; transparent pixels are black."""
    try:
        return np.asarray(decode(path, cover, profiles=False).on((0, 0, 0)).convert("L"))
    except Exception as fault:  # PIL raises many kinds of exceptions for damaged files
        raise UserError(coded("DATA-010", f"mask {path}: cannot be read ({first_line(fault)}); replace it")) from None


def resize(pixels: Pixels, size: Size, way: str | None = None) -> Pixels:
    """Resize to (width, height) with a `way` of --resize_interpolation; None: area averaging when shrinking, Lanczos when enlarging."""
    height, width = pixels.shape[:2]
    if (width, height) == tuple(size):
        return pixels
    way = way or ("area" if size[0] * size[1] < width * height else "lanczos")
    if way in ("lanczos", "box"):
        from PIL import Image

        kernel = Image.Resampling.LANCZOS if way == "lanczos" else Image.Resampling.BOX
        return np.asarray(Image.fromarray(pixels).resize(size, kernel))
    import cv2

    kernels = {"nearest": cv2.INTER_NEAREST_EXACT, "area": cv2.INTER_AREA}
    kernels |= {"linear": cv2.INTER_LINEAR, "bilinear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "bicubic": cv2.INTER_CUBIC}
    scaled: Pixels = cv2.resize(pixels, tuple(size), interpolation=kernels[way])
    return scaled


def crop(pixels: Pixels, size: Size, corner: tuple[int, int]) -> Pixels:
    """The crop of `size` (width, height) at `corner` (left, top)."""
    (left, top), (width, height) = corner, size
    cut = pixels[top : top + height, left : left + width]
    assert cut.shape[:2] == (height, width), f"crop {size} at {corner} leaves the image {pixels.shape}"
    return cut


def face_box(path: Path) -> tuple[int, int, int, int] | None:
    """(centre x, centre y, width, height) of the face in pixels from a name `…_x_y_w_h`; None without a face box."""
    numbers = [number for part in path.stem.rsplit("_", 4)[1:] if (number := whole_number(part)) is not None]
    if len(numbers) != 4:
        return None
    x, y, width, height = numbers
    return (x, y, width, height) if width and height else None


def _read(record: ImageRecord, cover: Size | None) -> Pixels:
    pixels = read_rgb(record.path, cover)
    height, width = pixels.shape[:2]
    # A reduced JPEG keeps the aspect ratio within one pixel; any other size means the file changed after it was measured.
    if abs(width * record.size[1] - height * record.size[0]) > max(record.size):
        raise UserError(
            coded("DATA-002", f"image {record.path}: has changed shape since the start of the run; do not change images while training")
        )
    return pixels


def _around_face(
    record: ImageRecord, size: Size, face: tuple[int, int, int, int], around: tuple[float, float], rng: Random
) -> tuple[Size, tuple[int, int]]:
    """Size after resizing and corner of a crop of `size` around the face.

    The longer side of the crop is a factor from `around` times the longer side of the face. The image is never enlarged beyond what
    covering `size` needs, and the crop stays inside the image.
    """
    width, height = record.size
    x, y, face_width, face_height = face
    wanted = max(size) / (rng.uniform(*around) * max(face_width, face_height))
    least = max(size[0] / width, size[1] / height)
    scale = max(least, min(wanted, 1.0))
    resized = (max(size[0], int(width * scale + 0.5)), max(size[1], int(height * scale + 0.5)))
    shift = [rng.uniform(-0.5, 0.5) * face_side * scale if record.subset.random_crop else 0.0 for face_side in (face_width, face_height)]
    corner = [
        int(min(max(centre * scale + moved - side / 2, 0), whole - side))
        for centre, moved, side, whole in zip((x, y), shift, size, resized, strict=True)
    ]
    return resized, (corner[0], corner[1])


def _colour(pixels: Pixels, seed: int) -> Pixels:
    """Change hue or gamma slightly, in a third of the showings."""
    import cv2

    rng = python_rng(seed, "colour")
    if rng.random() >= _COLOUR_RATE:
        return pixels
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + rng.randint(-_HUE_SHIFT, _HUE_SHIFT)) % 180
        shifted: Pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        return shifted
    gamma = rng.uniform(*_GAMMA)
    table = (np.linspace(0, 1, 256) ** gamma * 255 + 0.5).astype(np.uint8)
    brighter: Pixels = table[pixels]
    return brighter
