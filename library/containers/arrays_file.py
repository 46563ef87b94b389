"""`.npz` files: reads headers or arrays by name, within the limits of latents and masks."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from library.containers.archives import DAMAGED, Archive, open_archive
from library.containers.safetensors_header import check_shape

LARGEST = 1 << 27  # bytes of an array; a mask of 4096×4096 float32 has half of that
_HEADER = 1 << 14  # bytes; numpy's own limit is 10,000
_ENDING = ".npy"


class ArraysFile:
    """An open archive of arrays. Every damage raises ValueError."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.names = tuple(name.removesuffix(_ENDING) for name in archive.names if name.endswith(_ENDING))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, from its header."""
        return self._header(name)[0]

    def read(self, name: str) -> np.ndarray:
        """An array of numbers, never of objects."""
        shape, fortran, dtype, begin = self._header(name)
        count = math.prod(shape)
        if count * dtype.itemsize > LARGEST:
            raise ValueError(f"says that {name} has {count * dtype.itemsize:,} bytes, far more than possible")
        if begin + count * dtype.itemsize != self._archive.size(name + _ENDING):
            raise ValueError(DAMAGED)
        content = self._archive.read(name + _ENDING, LARGEST + _HEADER)
        return np.frombuffer(bytearray(content), dtype, count, begin).reshape(shape, order="F" if fortran else "C")

    def _header(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
        """(shape, whether it is in Fortran order, dtype, offset of the values)."""
        size = self._archive.size(name + _ENDING)
        file = io.BytesIO(self._archive.read_part(name + _ENDING, 0, min(size, _HEADER)))
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            header = check_shape(shape), bool(fortran), dtype, file.tell()
        except Exception as fault:  # the header is a Python literal in which anything may be wrong
            raise ValueError(DAMAGED) from fault
        if dtype.hasobject or dtype.kind not in "biuf":
            raise ValueError(f"contains {name} as {dtype}, where numbers are expected")
        return header


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[ArraysFile]:
    """Open a `.npz` file. Raises OSError from the disk, ValueError for a damaged file or one of another kind."""
    with open_archive(path) as archive:
        yield ArraysFile(archive)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file; raises like `open_arrays`."""
    with open_arrays(path) as file:
        return {name: file.read(name) for name in file.names}
