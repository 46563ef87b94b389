"""Metadata files as the tools hand them on: read whole, changed entry by entry, written whole; what they do not know they keep."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from library.console import log
from library.data.config.config_text import read_metadata_table
from library.errors import UserError, coded
from library.files import atomic_write, compared

Metadata = dict[str, dict[str, Any]]  # image key -> caption, tags, train_resolution and whatever else stands there


def read_metadata_file(path: Path, option: str) -> Metadata:
    """The file's entries in their order; UserError, naming `option`, when it is no such table. Nothing is changed,
    and nothing dropped but what stands there twice."""
    what = f"{option}: metadata file"
    table, findings = read_metadata_table(path, what)
    for line in findings:
        log.warning(line)
    metadata: Metadata = {}
    for key, entry in table.items():
        if not isinstance(entry, dict):
            raise UserError(
                coded("DATA-007", f'{what} {path}: entry {key!r}: expected {{"caption": "…", "tags": "…"}}, found {entry!r:.60}')
            )
        metadata[key] = entry
    return metadata


def write_metadata_file(path: Path, metadata: Metadata, option: str) -> None:
    """Write the file whole, its folder made if need be; UserError, naming `option`, when that cannot be, and then it is as it was."""
    text = json.dumps(metadata, indent=2, ensure_ascii=False)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not Unicode: escaped it is read back as it was
        data = json.dumps(metadata, indent=2).encode("ascii")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
    except OSError as fault:
        raise UserError(
            coded("DISK-004", f"{option}: {path}: cannot be written ({fault.strerror or fault}); choose another place")
        ) from None


class Keys:
    """Which key of a metadata file stands for an image: the one that it has there, however it is written, or a new one.

    A new key is the path relative to `folder` without ending and with forward slashes, or with `full_path` the absolute path. Of
    images that differ in their ending only (a.png, a.jpg) it keeps the ending, since one key cannot stand for two.
    """

    def __init__(self, folder: Path, images: Iterable[Path], metadata: Metadata, full_path: bool) -> None:
        self._folder, self._full_path = folder, full_path
        self._alike = Counter(image.with_suffix("") for image in images)
        self._known = {_plain(key): key for key in reversed(metadata)}

    def of(self, image: Path) -> str:
        """The key for `image`."""
        alone = self._alike[image.with_suffix("")] < 2
        for name in self._names(image):
            for form in (name, name.with_suffix("")) if alone else (name,):
                key = self._known.get(_plain(form.as_posix()))
                if key is not None:
                    return key
        if self._full_path:
            return str(image.absolute())
        relative = image.relative_to(self._folder)
        return (relative.with_suffix("") if alone else relative).as_posix()

    def _names(self, image: Path) -> Iterator[Path]:
        """The paths by which an existing key may name the image. A path relative to the folder says nothing with --full_path, where
        the file may hold several folders."""
        yield image.absolute()
        if self._full_path:
            yield image  # as the folder was written when the key was made
        else:
            yield image.relative_to(self._folder)


def is_full_path(key: str) -> bool:
    """Whether a key is a full path, of this system or another."""
    return PureWindowsPath(key).is_absolute() or PurePosixPath(key).is_absolute()


def _plain(key: str) -> str:
    return compared(key.replace("\\", "/").removeprefix("./"))
