"""Which file name endings are readable images, and which are images in an unsupported format: they are reported, not skipped silently."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from library.words import counted, ranked

_ALWAYS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_BY_MODULE = (  # endings that are readable if one of these modules is installed
    ((".avif",), ("PIL._avif", "pillow_avif")),  # some builds of Pillow lack its own module
    ((".heic", ".heif"), ("pillow_heif",)),
    ((".jxl",), ("pillow_jxl",)),
)
_PACKAGES = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin", ".avif": "pillow-avif-plugin"}
# endings of other image formats
_PICTURES = frozenset(
    ".avif .jxl .heic .heif .hif .jfif .jpe .tga .psd .jp2 .j2k .jxr .dng .cr2 .nef .arw .svg .exr .hdr .ico .ppm".split()
)


def _installed(module: str) -> bool:
    """Whether a module, or a submodule of a package, is installed; imports nothing, since Pillow takes a while to import."""
    package, _, part = module.partition(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    if spec is None or not part:
        return spec is not None
    return any(True for folder in spec.submodule_search_locations or () for _ in Path(folder).glob(f"{part}.*"))


def _readable() -> tuple[str, ...]:
    return _ALWAYS + tuple(ending for endings, modules in _BY_MODULE if any(map(_installed, modules)) for ending in endings)


READABLE: tuple[str, ...] = _readable()
SHOWN = " ".join(READABLE)  # for messages


def is_picture_ending(ending: str) -> bool:
    """Whether files with this ending, with its dot, are images."""
    return ending.lower() in _ALWAYS or ending.lower() in _PICTURES


@functools.cache
def register_plugins() -> None:
    """Register the installed plugins with Pillow."""
    if _installed("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    for module in ("pillow_avif", "pillow_jxl"):  # these register on import
        if _installed(module):
            importlib.import_module(module)


def unread_pictures(names: Iterable[str]) -> Counter[str]:
    """Count the files in unsupported image formats by ending in lower case; skips hidden files."""
    endings = (os.path.splitext(name)[1].lower() for name in names if not name.startswith("."))  # noqa: PTH122 - a Path for each name takes long
    return Counter(ending for ending in endings if ending in _PICTURES and ending not in READABLE)


def listed(endings: Counter[str]) -> str:
    """'3 .heic, 1 .jxl'"""
    return ", ".join(f"{count} {ending}" for ending, count in ranked(endings))


def remedy(endings: Counter[str]) -> str:
    """Say what to do about such files: convert them, or install a package that reads them."""
    packages = sorted({_PACKAGES[ending] for ending in endings if ending in _PACKAGES})
    install = f", or install {' and '.join(packages)}, which reads {_those(endings)}" if packages else ""
    return f"convert them to .png or .jpg{install}"


def described(endings: Counter[str]) -> str:
    """'3 images in an unsupported format: 3 .heic'"""
    return f"{counted(endings.total(), 'image')} in an unsupported format: {listed(endings)}"


def _those(endings: Counter[str]) -> str:
    return " ".join(ending for ending in endings if ending in _PACKAGES)
