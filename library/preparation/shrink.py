"""Writes smaller copies of images for each resolution, with the files next to them: to train at several sizes or to save space."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from library.console import log, progress
from library.data.pixels.images import Pixels, read_rgb
from library.errors import UserError, coded
from library.files import IMAGE_EXTENSIONS, atomic_write, compared
from library.parsing.whole import whole_number
from library.partial_faults import Faults
from library.paths.listing import names_in
from library.paths.look import is_file
from library.preparation.read_ahead import read_ahead, workers_of
from library.renaming import is_too_long, too_long
from library.words import counted, quoted

Size = tuple[int, int]  # width, height in pixels
_NOT_COPIED = IMAGE_EXTENSIONS | {".npz"}  # latents of the larger image do not fit the copy
_JPEG_QUALITY = 100


@dataclass(frozen=True)
class Shrink:
    """Settings for copies; a copy has at most the pixels of its resolution, keeps the aspect ratio, and is never enlarged."""

    target: Path
    resolutions: tuple[Size, ...]
    divisible_by: int = 1
    interpolation: str = "area"
    png: bool = False
    copy_beside: bool = False


def read_resolutions(text: str) -> tuple[Size, ...]:
    """`512x512,384x384` -> ((512, 512), (384, 384)); a single number means a square. Raises UserError for anything else."""
    sizes: list[Size] = []
    for part in filter(None, (part.strip() for part in text.lower().split(","))):
        sides = [whole_number(side) for side in part.split("x")]
        width, height = sides[0], sides[-1]
        if len(sides) > 2 or not width or not height:
            raise UserError(coded("OPT-006", f"--max_resolution: expected width x height such as 512x512,384x384, not {quoted(part)}"))
        sizes.append((width, height))
    if not sizes:
        raise UserError(coded("OPT-006", "--max_resolution: names no resolution; write one, such as 512x512"))
    return tuple(dict.fromkeys(sizes))


def shrunk_size(size: Size, most: Size) -> Size:
    """The size with the same aspect ratio and at most the pixels of `most`; a smaller image keeps its size.

    >>> shrunk_size((1000, 500), (200, 100)), shrunk_size((90, 90), (100, 100))
    ((200, 100), (90, 90))
    """
    width, height = size
    if width * height <= most[0] * most[1]:
        return size
    scale = math.sqrt(most[0] * most[1] / (width * height))
    return max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6))


def shrink_images(images: Sequence[Path], settings: Shrink) -> None:
    """Write the copies of all images. Raises PartlyDone with a line for each image that cannot be read, shrunk or written."""
    alike = Counter(image.with_suffix("") for image in images)
    beside = _files_beside(images) if settings.copy_beside else {}
    faults = Faults()
    copies = 0

    def work(image: Path) -> int:
        pixels = read_rgb(image)
        # a.png and a.jpg would both become a+512x512.jpg
        name = image.stem if alike[image.with_suffix("")] == 1 else image.name
        others = beside.get(compared(image.stem), [])
        return sum(_copy(pixels, image, name, most, settings, others) for most in settings.resolutions)

    with progress(total=len(images), label="shrinking", unit="image") as bar:
        for batch in read_ahead(images, work, 1, workers_of(None)):
            for one in batch:
                if one.fault is not None:
                    faults.add(one.fault.reworded(f"image {one.path}: {one.fault}"))
                copies += one.value or 0
                bar.update()
    summary = f"{counted(copies, 'copy', 'copies')} of {counted(len(images), 'image')} in {settings.target}"
    faults.raise_if_any(summary, copies)
    log.info("%s", summary)


def _copy(pixels: Pixels, image: Path, name: str, most: Size, settings: Shrink, beside: Sequence[Path]) -> int:
    """Write one copy and the files next to it; returns 1, the number of copies."""
    mark = f"+{most[0]}x{most[1]}"
    path = settings.target / f"{name}{mark}{'.png' if settings.png else '.jpg'}"
    small = _cropped(_resized(pixels, most, settings.interpolation), settings.divisible_by)
    if not small.size:
        width, height = pixels.shape[1], pixels.shape[0]
        raise UserError(
            coded("DATA-027", f"{width}x{height} has a side under --divisible_by {settings.divisible_by} at {most[0]}x{most[1]}; lower it")
        )
    try:
        settings.target.mkdir(parents=True, exist_ok=True)
        _write(path, small)
        for file in beside:
            with atomic_write(settings.target / f"{name}{mark}{file.name[len(image.stem) :]}") as temporary:
                shutil.copyfile(file, temporary)
    except OSError as fault:
        if is_too_long(fault):
            raise UserError(coded("PATH-008", f"its copy cannot be written: {too_long(path)}")) from None
        raise UserError(coded("PATH-005", f"{path} cannot be written ({fault.strerror or fault}); choose another folder")) from None
    return 1


def _resized(pixels: Pixels, most: Size, interpolation: str) -> Pixels:
    import cv2

    own = (pixels.shape[1], pixels.shape[0])
    size = shrunk_size(own, most)
    ways = {"area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC, "lanczos4": cv2.INTER_LANCZOS4}
    return pixels if size == own else cv2.resize(pixels, size, interpolation=ways[interpolation])


def _cropped(pixels: Pixels, step: int) -> Pixels:
    """The centre of the image, with each side a multiple of `step`."""
    height, width = pixels.shape[:2]
    new_height, new_width = height - height % step, width - width % step
    top, left = (height - new_height) // 2, (width - new_width) // 2
    return pixels[top : top + new_height, left : left + new_width]


def _write(path: Path, pixels: Pixels) -> None:
    from PIL import Image

    with atomic_write(path) as temporary:
        image = Image.fromarray(pixels)
        if path.suffix == ".png":
            image.save(temporary, format="PNG")
        else:
            image.save(temporary, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)


def _files_beside(images: Sequence[Path]) -> dict[str, list[Path]]:
    """Files that belong to an image: those with the same stem and another extension, by stem."""
    stems = {compared(image.stem) for image in images}
    by_stem: dict[str, list[Path]] = {}
    for folder in {image.parent for image in images}:
        for file in (folder / name for name in names_in(folder)):
            if is_file(file) and file.suffix.lower() not in _NOT_COPIED and compared(file.stem) in stems:
                by_stem.setdefault(compared(file.stem), []).append(file)
    return by_stem
