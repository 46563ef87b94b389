"""Describes what is near a wrong path: similar names, the images in a folder, its subfolders."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from library.files import names_image
from library.image_endings import remedy, unread_pictures
from library.options.suggest import backslash_hint
from library.paths.listing import listing
from library.paths.look import exists, expanded, is_folder
from library.words import counted, named, ranked

_BLANKS = " \t\u00a0\u3000"
_QUOTES = "'\"“”„‘’‚`"


def near_names(path: Path) -> str:
    """'; did you mean …' with similar siblings, or the part of the path that is missing; empty without any hint."""
    if hint := _marks(path):
        return hint
    path = Path(path).absolute()
    parent = path.parent
    if not is_folder(parent):
        while not is_folder(parent) and parent != parent.parent:
            path, parent = parent, parent.parent
        return f"; there is no '{path.name}' in {parent}" + _close(path, parent)
    return _close(path, parent)


def _marks(path: Path) -> str:
    """A hint about spaces, quotes and backslash-like signs in a path; '' if there are none or if removing them leads nowhere either."""
    bare = Path(
        *(part if part == path.anchor else part.strip(_BLANKS + _QUOTES) for part in Path(str(path).strip(_BLANKS + _QUOTES)).parts)
    )
    if str(bare) == str(path):
        return backslash_hint(path)
    quoted = any(sign in str(path) for sign in _QUOTES)
    what = "quotes inside the quotes" if quoted else "a space at the end of a name"
    if exists(expanded(bare)):
        return f"; it contains {what}: write '{bare}'"
    return f"; it contains {what}: remove {'them' if quoted else 'it'}" if quoted or str(path) != str(path).strip(_BLANKS) else ""


def _close(path: Path, parent: Path) -> str:
    try:
        names = sorted(one.name for one in parent.iterdir() if one != path)  # the path itself can be listed: a broken link
    except OSError:
        return ""
    lower = {name.lower(): name for name in names}
    close = [lower[name] for name in difflib.get_close_matches(path.name.lower(), list(lower), n=3, cutoff=0.6)]
    return "; did you mean " + " or ".join(f"'{parent / name}'" for name in close) + "?" if close else ""


def folder_contents(folder: Path) -> tuple[int, dict[str, int]]:
    """The number of images directly in `folder`, and in each of its non-hidden subfolders."""
    here = listing(folder)
    below = {}
    for name in here.folders:
        if not name.startswith("."):
            try:
                below[name] = _images(listing(Path(folder) / name).files)
            except OSError:
                below[name] = 0
    return _images(here.files), below


def _images(names: Iterable[str]) -> int:
    return sum(map(names_image, names))


def has_images(folder: Path) -> bool:
    """Whether `folder` directly contains at least one image."""
    return _images(listing(folder).files) > 0


def other_files(folder: Path) -> str:
    """A short description of the contents of a folder without images."""
    here = listing(folder)
    files = list(here.files)
    endings = Counter("hidden" if name.startswith(".") else Path(name).suffix.lower() or "without extension" for name in files)
    folders = list(here.folders)
    if not endings and folders:
        return f"it contains only {counted(len(folders), 'folder')}: {named(folders)}"
    if not endings and here.special:
        return f"it contains only pipes, sockets or devices: {named(list(here.special))}"
    if not endings:
        return "it is empty"
    listed = [f"{count} {ending}" for ending, count in ranked(endings)]
    pictures = unread_pictures(files)
    instead = f"; {remedy(pictures)}" if pictures else ""
    return f"it contains {named(listed, 4)} {'file' if endings.total() == 1 else 'files'}{instead}"
