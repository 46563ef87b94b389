"""Images and arrays whose headers say what they like."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np


def png(width: int, height: int, data: bytes = b"", chunks: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    """A PNG that says it has this size, around packed rows (`data`) and more chunks before them."""
    head = struct.pack(">LLBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", data or zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def npy(shape: tuple[int, ...], dtype: str = "<f4", data: bytes = b"", more: str = "") -> bytes:
    """An array as numpy writes it, whatever its header says."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape!r}, {more}}}".encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def sound_npz(path: Path) -> Path:
    np.savez(path, latents=np.zeros((4, 8, 12), np.float32), original_size=np.array((96, 64)), crop_ltrb=np.array((0, 0, 96, 64)))
    return path


def write_npz(path: Path, **members: bytes) -> Path:
    """An archive of arrays, of these bytes each."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def write_packed(path: Path, name: str, packed: bytes, size: int) -> Path:
    """A zip file of one member, `packed` by deflate, that says it has `size` bytes when it is unpacked."""
    named = name.encode("ascii")
    facts = struct.pack("<HHHHHLLLHH", 20, 0, zipfile.ZIP_DEFLATED, 0, 33, 0, len(packed), size, len(named), 0)
    local = b"PK\x03\x04" + facts + named + packed
    central = b"PK\x01\x02" + struct.pack("<H", 20) + facts + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + named
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)
    return path
