"""Metadata files for the tools: read and written as a whole, changed entry by entry; unknown values are preserved."""

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

Metadata = dict[str, dict[str, Any]]  # image key -> caption, tags, train_resolution and any other values


def read_metadata_file(path: Path, option: str) -> Metadata:
    """The file's entries in their order, unchanged except that duplicate keys are dropped.

    Raises UserError that names `option` if the file has another form.
    """
    what = f"{option}: metadata file"
    table, findings = read_metadata_table(path, what)
    for line in findings:
        log.warning(line)
    metadata: Metadata = {}
    for key, entry in table.items():
        if not isinstance(entry, dict):
            raise UserError(
                coded("DATA-007", f'{what} {path}: entry {key!r}: expected {{"caption": "…", "tags": "…"}}, found {json.dumps(entry):.60}')
            )
        metadata[key] = entry
    return metadata


def write_metadata_file(path: Path, metadata: Metadata, option: str) -> None:
    """Write the file atomically and create its folder. Raises UserError that names `option`; an existing file then stays unchanged."""
    text = json.dumps(metadata, indent=2, ensure_ascii=False)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not Unicode: an escape sequence reads back as the same name
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
    """Chooses the key of an image in a metadata file: the existing one, in any spelling, or a new one.

    A new key is the path relative to `folder` without extension and with forward slashes, or with `full_path` the absolute path. Images
    that differ only in their extension (a.png, a.jpg) keep it, since one key cannot name both.
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
        """The paths by which an existing key may name the image.

        With --full_path, relative paths are ambiguous, since the file may contain several folders.
        """
        yield image.absolute()
        if self._full_path:
            yield image  # with the folder as the user wrote it
        else:
            yield image.relative_to(self._folder)


def is_full_path(key: str) -> bool:
    """Whether a key is a full path on this or another system."""
    return PureWindowsPath(key).is_absolute() or PurePosixPath(key).is_absolute()


def _plain(key: str) -> str:
    return compared(key.replace("\\", "/").removeprefix("./"))
