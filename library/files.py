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


def sha256(path: Path, offset: int = 0) -> str:
    """Hex SHA-256 of the file's bytes from `offset` on, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        file.seek(offset)
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def free_bytes(folder: Path) -> int:
    """Free space where `folder` is, or will be, in bytes."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
