"""Reads zip archives (`.ckpt`, `.npz`) from elsewhere within the limits of real files; reports all damage in the same way."""

from __future__ import annotations

import contextlib
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from library.paths.opening import open_file, regular

DAMAGED = "is damaged or truncated"
MOST_DIRECTORY = 1 << 24  # bytes of the list of members; a full model with its optimizer has less than 1 MiB
MOST_UNPACKED = 20  # largest ratio of unpacked to packed size of an archive; weights hardly compress at all
ALWAYS_UNPACKED = 1 << 26  # bytes that any archive may unpack to
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_TAIL = 1 << 17  # bytes; contain the end record and the longest comment
_FAULTS = (  # exceptions of zipfile for various kinds of damage
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    ValueError,
    KeyError,
    IndexError,
    EOFError,
    RuntimeError,  # encrypted
    OverflowError,
)  # includes NotImplementedError, for unknown methods


class Archive:
    """An open archive. Every damage of a member raises ValueError with the reason; an OSError comes from the disk."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self.names = tuple(file.namelist())

    def size(self, name: str) -> int:
        """The unpacked size of a member in bytes; checks the member's headers."""
        info = self._info(name)
        with _damage_as_value_error():
            self._file.open(info).close()  # reads the header before the member's bytes
        return info.file_size

    def read(self, name: str, most: int) -> bytes:
        """The content of a member, of at most `most` bytes."""
        info = self._info(name)
        if info.file_size > most:
            raise ValueError(f"claims that {name} has {info.file_size:,} bytes, far more than possible")
        with _damage_as_value_error(), self._file.open(info) as member:
            content = member.read(info.file_size)  # limits memory: a packed member may contain more than it claims
        if len(content) < info.file_size:
            raise ValueError(DAMAGED)
        return content

    def read_part(self, name: str, begin: int, count: int) -> bytes:
        """`count` bytes of a member, starting at `begin`."""
        with _damage_as_value_error(), self._file.open(self._info(name)) as member:
            if begin:
                member.seek(begin)
            part = member.read(count)
        if len(part) < count:
            raise ValueError(DAMAGED)
        return part

    def check_sums(self) -> None:
        """Read everything and verify the checksum of each member. Raises ValueError for a damaged one."""
        with _damage_as_value_error():
            broken = self._file.testzip()
        if broken is not None:
            raise ValueError(f"{DAMAGED}: {broken} differs from what was written")

    def _info(self, name: str) -> zipfile.ZipInfo:
        with _damage_as_value_error():
            info = self._file.getinfo(name)
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
            raise ValueError(DAMAGED)
        return info


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a zip file for reading. Raises ValueError if its list of members is damaged or it unpacks to more than weights can."""
    size = regular(path).stat().st_size
    if _directory(path, size) > MOST_DIRECTORY:
        raise ValueError(DAMAGED)
    with _damage_as_value_error():
        file = zipfile.ZipFile(path)
    with file:
        unpacked = sum(info.file_size for info in file.infolist())
        if unpacked > ALWAYS_UNPACKED + MOST_UNPACKED * size:
            raise ValueError(f"unpacks from {size:,} to {unpacked:,} bytes, which no real file does")
        yield Archive(file)


@contextlib.contextmanager
def _damage_as_value_error() -> Iterator[None]:
    try:
        yield
    except _FAULTS as fault:
        raise ValueError(DAMAGED) from fault


def _directory(path: Path, size: int) -> int:
    """Size in bytes of the list of members, according to the end record; 0 if there is none."""
    with open_file(path) as file:
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
    large, end = tail.rfind(b"PK\x06\x06"), tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return 0
    (count,) = struct.unpack_from("<L", tail, end + 12)
    if count == 0xFFFFFFFF and 0 <= large <= len(tail) - 48:
        (count,) = struct.unpack_from("<Q", tail, large + 40)
    return int(count)
