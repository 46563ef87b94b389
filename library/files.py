"""Files on disk: images listed in one stable order, writes that are whole or not there, hashes, free space."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

IMAGE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


def is_image(path: Path) -> bool:
    """Whether the name ends like an image's, in any letter case."""
    return path.suffix.lower() in IMAGE_EXTENSIONS


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """The images of `folder`, sorted by name so that the order is the same on every file system."""
    found: list[Path] = []
    for base, folders, names in os.walk(folder):
        if not recursive:
            folders.clear()
        found += [Path(base, name) for name in names if is_image(Path(name))]
    return sorted(found, key=lambda path: path.as_posix())


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and takes `path`'s place, on failure it is removed.

    A reader, a kill or a full disk therefore never meets half a file under the real name.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success its files are flushed to disk and it takes `path`'s place, on failure it is removed.

    A folder that stood there before is moved aside first and comes back if the new one cannot be put in its place.
    """
    path = Path(path)
    mark = uuid.uuid4().hex[:8]
    fresh, old = path.with_name(f".{path.name}.{mark}.tmp"), path.with_name(f".{path.name}.{mark}.old")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        for file in fresh.iterdir():
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        flush_folder(fresh)
        if path.exists():
            path.rename(old)
        try:
            fresh.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    flush_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Have the names in `folder` written to disk, where the system can do that (Windows does it by itself)."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):  # some network file systems refuse
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256(path: Path, offset: int = 0) -> str:
    """Hex SHA-256 of the file's bytes from `offset` on, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        file.seek(offset)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
